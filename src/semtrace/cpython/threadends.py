"""Find the thread whose end a thread waits for: in Thread.join, or when the interpreter ends."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.cpython.bytecode import item_of
from semtrace.cpython.classes import Form
from semtrace.cpython.lockpaths import Target, matches
from semtrace.cpython.stack import PyFrame, Sample
from semtrace.cpython.variables import local
from semtrace.lazydata import dataclass

_MOST_ACTIVE = 512
# Modules/_threadmodule.c 3.13 PyThreadHandleObject.handle, and the size of the ThreadHandle that it points at: its
# event `thread_is_exiting` lies in it
_HANDLE, _HANDLE_SIZE = 16, 96
_HANDLES = ("_handle", "_os_thread_handle")  # Lib/threading.py 3.13, 3.14 Thread.__init__
# Lib/threading.py: 3.8 to 3.12; from 3.13 on the method `join` itself waits; what runs when the interpreter ends
_JOINS, _ENDS = ("_wait_for_tstate_lock", "join"), "_shutdown"


@dataclass(frozen=True)
class Awaited:
    """A thread whose end another one waits for. `name` is None if it could not be determined among several. `native_id`
    is as the process's own pid namespace numbers it. `at_exit` is True if the interpreter waits before it ends.
    """

    name: str | None
    native_id: int | None
    pthread_id: int | None
    at_exit: bool


def awaited_thread(sample: Sample, frame: PyFrame, target: Target) -> Awaited | None:
    """Return whose end the thread waits for whose innermost frame this is, None if it does not wait for an end."""
    if not frame.file.endswith("/threading.py"):
        return None
    if frame.function in _JOINS:
        thread = local(sample, frame, "self")
        return _awaited(sample, thread, False) if thread else None
    if frame.function != _ENDS:
        return None
    if not target.parked and not _waits_for_lock(sample, frame, target):
        return None
    for thread in _active(sample, frame):
        if _ends_with(sample, thread, target):
            return _awaited(sample, thread, True)
    return Awaited(None, None, None, True)


def _waits_for_lock(sample: Sample, frame: PyFrame, target: Target) -> bool:
    """Lib/threading.py _shutdown, 3.8 to 3.12: the variable `lock` is some thread's `_tstate_lock`."""
    lock = local(sample, frame, "lock")
    cls = sample.classes.of(lock)
    return cls is not None and cls.form is Form.THREAD_LOCK and matches(sample, lock, cls, target)


def _active(sample: Sample, frame: PyFrame) -> Iterator[int]:
    """Yield the Thread objects of `threading._active`, found by the globals of a function of that module."""
    objects = sample.objects
    active = item_of(objects, objects.pages.u64(frame.address + objects.layout.frame_globals), "_active")
    if objects.is_dict(active):
        yield from (thread for _, thread in objects.dict_items(active, _MOST_ACTIVE))


def _ends_with(sample: Sample, thread: int, target: Target) -> bool:
    cls = sample.classes.of(thread)
    if cls is None:
        return False
    if target.parked:
        handle = next(filter(None, (sample.classes.attribute(thread, cls, name) for name in _HANDLES)), 0)
        start = sample.objects.pages.u64(handle + _HANDLE) if handle else 0
        return bool(start) and start <= target.word < start + _HANDLE_SIZE
    lock = sample.classes.attribute(thread, cls, "_tstate_lock")
    kind = sample.classes.of(lock)
    return kind is not None and kind.form is Form.THREAD_LOCK and matches(sample, lock, kind, target)


def _awaited(sample: Sample, thread: int, at_exit: bool) -> Awaited:
    cls = sample.classes.of(thread)
    if cls is None:
        return Awaited(None, None, None, at_exit)
    name, native, ident = (sample.classes.attribute(thread, cls, each) for each in ("_name", "_native_id", "_ident"))
    integer = sample.objects.integer
    return Awaited(sample.objects.text(name), integer(native) or None, integer(ident) or None, at_exit)
