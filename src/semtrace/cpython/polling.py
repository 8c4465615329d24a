"""Threads that poll for a file lock: asleep between two tries inside `acquire` of filelock, portalocker or fasteners.

The kernel shows no waiter then. The frames say which file is asked for, and the lock object has its path.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from semtrace.cpython.lockfiles import path_at
from semtrace.cpython.stack import PyFrame, Sample
from semtrace.cpython.variables import variables
from semtrace.lazydata import dataclass

# A try of filelock's SoftFileLease reads several files, some eight calls below `acquire`.
_INNER_FRAMES = 16
# Objects/floatobject.c PyFloatObject.ob_fval, 3.8 to 3.15
_FLOAT_VALUE = 16
_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True)
class Polling:
    """A call of `acquire`. `path` is as the program gave it. `began_s` is when the call began, by CLOCK_MONOTONIC of
    the process, None where the library does not keep that. `timed`: it gives up some time. `soft`: the file itself is
    the lock. `lock` is the address of the lock object.
    """

    path: str
    exclusive: bool
    timed: bool
    soft: bool
    lock: int
    began_s: float | None = None


def polling(sample: Sample, frames: Sequence[PyFrame]) -> Polling | None:
    """Return the call that a thread is in, None if it is in none."""
    for frame in frames[:_INNER_FRAMES]:
        file = frame.file
        if "/filelock/" in file:
            found = _filelock(sample, frame)
        elif file.endswith("/portalocker/utils.py"):
            found = _portalocker(sample, frame)
        elif file.endswith("/fasteners/process_lock.py"):
            found = _fasteners(sample, frame)
        else:
            continue
        if found is not None:
            return found
    return None


def _filelock(sample: Sample, frame: PyFrame) -> Polling | None:
    """filelock 3.0 to 3.29: _api.py BaseFileLock.acquire; 4: _core/_acquire.py _poll_until_acquired, whose AcquireWait
    has the timeout. Both have the path in `lock_filename` from 3.1 on. A negative timeout means no timeout.
    """
    if frame.file.endswith("/filelock/_sqlite/_lock.py"):
        return _database(sample, frame)
    if frame.function not in ("acquire", "_poll_until_acquired"):
        return None
    found = variables(sample, frame)
    path = _path(sample, found.get("lock_filename", 0))
    if path is None:
        return None
    own = found.get("self", 0)
    # AcquireWait is a named tuple: blocking, cancel_check, timeout, poll_interval, start_time.
    _, cancel, timeout, _, began = (
        _items(sample, found["wait"])
        if "wait" in found
        else (0, found.get("cancel_check", 0), found.get("timeout", 0), 0, found.get("start_time", 0))
    )
    limit = _number(sample, timeout)
    cancels = bool(cancel) and _class_name(sample, cancel) != "NoneType"
    timed = limit is None or limit >= 0 or cancels
    return Polling(path, True, timed, _is_soft(sample, own), own, _number(sample, began))


def _database(sample: Sample, frame: PyFrame) -> Polling | None:
    """filelock 4: ReadWriteLock._acquire, which locks a database of SQLite. That polls, and takes POSIX locks."""
    if frame.function != "_acquire":
        return None
    found = variables(sample, frame)
    own = found.get("self", 0)
    path = _path(sample, sample.classes.attribute_of(own, "lock_file"))
    limit = _number(sample, found.get("timeout", 0))
    exclusive = sample.objects.text(found.get("mode", 0)) != "read"
    began = _number(sample, found.get("start_time", 0))
    return None if path is None else Polling(path, exclusive, limit is None or limit >= 0, False, own, began)


def _is_soft(sample: Sample, lock: int) -> bool:
    """Return True for an object of SoftFileLock, or of a class that is derived from it."""
    cls = sample.classes.of(lock)
    return cls is not None and any("Soft" in each.name for each in (cls, *sample.classes.mro(cls)))


def _items(sample: Sample, address: int) -> tuple[int, ...]:
    items = tuple(sample.objects.tuple_of(address, 5))
    return items if len(items) == 5 else (0,) * 5


def _portalocker(sample: Sample, frame: PyFrame) -> Polling | None:
    """portalocker 1 to 4: utils.py Lock.acquire and LockBase._timeout_generator. It always has a timeout."""
    if frame.function not in ("acquire", "_timeout_generator"):
        return None
    found = variables(sample, frame)
    own = found.get("self", 0)
    path = _path(sample, sample.classes.attribute_of(own, "filename"))
    began = _number(sample, found.get("start_time", 0))
    return None if path is None else Polling(path, True, True, False, own, began)


def _fasteners(sample: Sample, frame: PyFrame) -> Polling | None:
    """fasteners 0.14 to 0.20: process_lock.py InterProcessLock.acquire, InterProcessReaderWriterLock._acquire."""
    if frame.function not in ("acquire", "_acquire"):
        return None
    found = variables(sample, frame)
    own = found.get("self", 0)
    path = _path(sample, sample.classes.attribute_of(own, "path"))
    if path is None:
        return None
    timed = _class_name(sample, found.get("timeout", 0)) != "NoneType"
    exclusive = "exclusive" not in found or bool(sample.objects.integer(found["exclusive"]))
    began = _number(sample, sample.classes.attribute_of(found.get("watch", 0), "started_at"))
    return Polling(path, exclusive, timed, False, own, began)


def _path(sample: Sample, address: int) -> str | None:
    return path_at(sample.objects, sample.classes, address)


def _number(sample: Sample, address: int) -> float | None:
    whole = sample.objects.integer(address)
    if whole is not None:
        return float(whole)
    if not address or _class_name(sample, address) != "float":
        return None
    raw = sample.objects.pages.read(address + _FLOAT_VALUE, 8)
    value = _DOUBLE.unpack(raw)[0] if raw else None
    return None if value is None else float(value)


def _class_name(sample: Sample, address: int) -> str:
    cls = sample.classes.of(address) if address else None
    return "" if cls is None else cls.name
