"""hello, whose worker has started a forked child, a spawned child and another program, all idle."""

import multiprocessing
import subprocess
import time

from hello import app

_started = []


def post_worker_init(worker):
    """gunicorn's hook (`-c python:hello_children`): the children of a worker."""
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=time.sleep, args=(3600,), daemon=True)
        process.start()
        _started.append(process)
    _started.append(subprocess.Popen(["sleep", "3600"]))


__all__ = ["app", "post_worker_init"]
