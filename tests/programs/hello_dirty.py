"""A dirty application of gunicorn 25 and later that does nothing."""

from gunicorn.dirty import DirtyApp


class Idle(DirtyApp):
    def init(self):
        pass
