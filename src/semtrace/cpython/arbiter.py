"""Read the settings that a gunicorn master's Arbiter keeps, whatever file or hook they came from.

No module leads to the Arbiter, but the main thread is inside its `run` for as long as the master lives.
"""

from __future__ import annotations

import time

from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Class, Classes
from semtrace.cpython.frames import read_frames
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import Pages, Readable
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.lazydata import dataclass
from semtrace.linux.maps import read_mappings

_MOST_S = 0.3
_ATTEMPTS = 4
_PAUSE_S = 0.005
_LONGEST_TIMEOUT_S = 1_000_000_000
_MOST_THREADS = 100_000
_MOST_SETTINGS = 500


@dataclass(frozen=True)
class Arbiter:
    """`timeout_s`, the worker's class in full, `gunicorn.workers.sync.SyncWorker`, and `--threads`; None for what could
    not be read.
    """

    timeout_s: float | None = None
    worker_class: str | None = None
    threads: int | None = None


def read_arbiter(pid: int, memory: Readable) -> Arbiter | None:
    """None if no Arbiter is found: another interpreter, one that cannot be read, or no master."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        found = _look(pid, memory)
        if found is not None:
            return found
    return None


def _look(pid: int, memory: Readable) -> Arbiter | None:
    """A stack that changes while it is read may lead nowhere."""
    try:
        runtime, objects = locate(Pages(memory), read_mappings(pid) or ())
    except (UnreadableError, PermissionError):
        return None
    classes = Classes(objects)
    budget = Budget(_MOST_S, 1)
    for frame in read_frames(objects, classes, runtime.interpreters, budget):
        for label, value in frame.variables:
            cls = classes.of(value)
            if cls is not None and objects.text(label) == "self" and _is_arbiter(classes, cls):
                return _read(objects, classes, value, cls)
    return None


def _is_arbiter(classes: Classes, cls: Class) -> bool:
    """Return True for this class or one derived from it."""
    return any((each.module, each.name) == ("gunicorn.arbiter", "Arbiter") for each in classes.mro(cls))


def _read(objects: Objects, classes: Classes, arbiter: int, cls: Class) -> Arbiter:
    """gunicorn/arbiter.py, setup: self.timeout, self.worker_class; the same from 20.1 to 27.0, after a HUP the new."""
    timeout = objects.integer(classes.attribute(arbiter, cls, "timeout"))
    worker = classes.attribute(arbiter, cls, "worker_class")
    named = classes.read(worker) if objects.is_type(worker) else None
    return Arbiter(
        timeout_s=float(timeout) if timeout is not None and 0 <= timeout < _LONGEST_TIMEOUT_S else None,
        worker_class=f"{named.module}.{named.name}" if named is not None else None,
        threads=_threads(objects, classes, arbiter, cls),
    )


def _threads(objects: Objects, classes: Classes, arbiter: int, cls: Class) -> int | None:
    """gunicorn/config.py: Config.settings is a dict of Setting objects, each with its `value`; the same from 20.1 to
    27.0.
    """
    settings = classes.attribute_of(classes.attribute(arbiter, cls, "cfg"), "settings")
    items = objects.dict_items(settings, _MOST_SETTINGS) if objects.is_dict(settings) else ()
    setting = next((value for key, value in items if objects.text(key) == "threads"), 0)
    value = objects.integer(classes.attribute_of(setting, "value"))
    return value if value is not None and 0 < value < _MOST_THREADS else None
