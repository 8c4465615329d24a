"""What a sleeping thread is said to wait for, without a process."""

from __future__ import annotations

import pytest

from semtrace.cpython.classes import Class
from semtrace.cpython.lockpaths import Way
from semtrace.cpython.privatewait import PrivateWait
from semtrace.cpython.privatewait import WaitKind as Private
from semtrace.cpython.stack import PyFrame
from semtrace.linux.blocked import Blocked, Call
from semtrace.model import Doubt, ProcessId, Target, ThreadId
from semtrace.observe.blocked.asleep import Sleeper
from semtrace.observe.blocked.waitfor import About, reason

PROCESS = ProcessId(5, 100)
LOCK = 0x5000


def target(names: dict[int, str]) -> Target:
    """Return what a thread waits for that sleeps in a lock which a local variable leads to."""
    frame = PyFrame("inc", None, "/srv/app.py", 7, 0x1000, 0x2000, 0)
    way = Way(frame, "lock", (), LOCK, object.__new__(Class))
    private = PrivateWait(Private.LOCK, LOCK, True, ways=(way,))
    blocked = Blocked(Call.FUTEX, futex=0x6000, private=True)
    sleeper = Sleeper(ThreadId(PROCESS, 5), 3.0, blocked, (frame,), private=private)
    about = About({}, lambda _: names, lambda _, __: None, tuple, (PROCESS,), ())
    found = reason(sleeper, about)
    assert found is not None
    return found.wait.target


def test_name_of_a_variable_is_marked_as_such() -> None:
    only = target({})
    assert (only.name, only.named, only.variable) == ("lock", False, True)
    known = target({LOCK: "app.cache.lock"})
    assert (known.name, known.named, known.variable) == ("app.cache.lock", True, False)


@pytest.mark.parametrize(
    ("read", "handlers", "doubt"),
    [(True, (), None), (True, (PROCESS,), Doubt.HANDLER), (False, (), Doubt.UNRECOGNISED)],
)
def test_what_is_not_known_may_be_what_a_handler_gives(
    read: bool, handlers: tuple[ProcessId, ...], doubt: Doubt | None
) -> None:
    """It may be an Event that a handler of the program sets, or a stack that is still to be read."""
    blocked = Blocked(Call.FUTEX, futex=0x6000, private=True)
    sleeper = Sleeper(ThreadId(PROCESS, 5), 3.0, blocked, read=read)
    found = reason(sleeper, About({}, lambda _: {}, lambda _, __: None, tuple, (PROCESS,), handlers))
    assert found is not None
    assert found.wait.wakers.doubt is doubt


def test_import_lock_is_never_waited_for_as_designed() -> None:
    """A thread of a Pool that hands out jobs waits in no code of the program: for jobs, or to pickle one."""
    frames = (
        PyFrame("acquire", None, "<frozen importlib._bootstrap>", 7, 0x1000, 0x2000, 0),
        PyFrame("_handle_tasks", None, "/usr/lib/python3.12/multiprocessing/pool.py", 7, 0x1100, 0x2000, 0),
    )
    blocked = Blocked(Call.FUTEX, futex=0x6000, private=True)
    for kind, idle in ((Private.CONDITION, True), (Private.IMPORT_LOCK, False)):
        sleeper = Sleeper(ThreadId(PROCESS, 5), 3.0, blocked, frames, private=PrivateWait(kind, LOCK, True))
        found = reason(sleeper, About({}, lambda _: {}, lambda _, __: None, tuple, (PROCESS,), ()))
        assert found is not None
        assert found.wait.idle is idle
