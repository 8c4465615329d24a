"""What a walk of the frames needs of a gunicorn's master, on every Python: an Arbiter that is in its `run`."""

import signal
import sys
import types


def build():
    """The two classes, in modules of gunicorn's names."""
    arbiter, worker = types.ModuleType("gunicorn.arbiter"), types.ModuleType("gunicorn.workers.gthread")
    sys.modules["gunicorn.arbiter"], sys.modules["gunicorn.workers.gthread"] = arbiter, worker
    exec("class ThreadWorker:\n    pass\n", worker.__dict__)
    exec(ARBITER, arbiter.__dict__)
    return arbiter.Arbiter


# As in gunicorn/arbiter.py: more attributes than a class shares the keys of.
ARBITER = """
import signal
from gunicorn.workers.gthread import ThreadWorker

class Setting:
    def __init__(self, value):
        self.value = value

class Config:
    def __init__(self):
        self.settings = {"name%d" % number: Setting(number) for number in range(90)}
        self.settings["threads"] = Setting(7)

class Arbiter:
    def __init__(self):
        for number in range(40):
            setattr(self, "a%d" % number, number)
        self.worker_class = ThreadWorker
        self.timeout = 29
        self.cfg = Config()

    def run(self):
        print("READY", flush=True)
        signal.pause()
"""


class OwnArbiter(build()):
    pass


signal.alarm(600)
OwnArbiter().run()
