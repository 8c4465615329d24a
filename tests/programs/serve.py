"""gunicorn under another name, started by a custom BaseApplication: `serve.py ADDRESS`."""

import sys

from gunicorn.app.base import BaseApplication

from hello import app


class Application(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", sys.argv[1])
        self.cfg.set("workers", 2)
        if "control_socket_disable" in self.cfg.settings:
            self.cfg.set("control_socket_disable", True)

    def load(self):
        return app


if __name__ == "__main__":
    Application().run()
