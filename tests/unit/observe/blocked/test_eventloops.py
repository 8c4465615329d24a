"""Which processes run an asyncio event loop: by the frames of their first thread."""

from __future__ import annotations

from types import SimpleNamespace

from support import snapshots

from semtrace.cpython.stack import PyFrame
from semtrace.linux.blocked import Call
from semtrace.observe.blocked.eventloops import EventLoops


def frame(file: str) -> PyFrame:
    return PyFrame("run", None, file, 7, 0, 0, 0)


LOOP = frame("/usr/lib/python3.11/asyncio/base_events.py")
OTHER = frame("/srv/app.py")


class Unreadable:
    """A process whose stack nobody may read."""

    id = snapshots.pid(11)

    @property
    def memory(self) -> None:
        raise AssertionError("its stack is read again")


def test_stack_that_was_read_is_not_read_again() -> None:
    for frames, runs in (((OTHER, LOOP), {Unreadable.id}), ((OTHER,), set())):
        found = EventLoops().read(1.0, [Unreadable()], {Unreadable.id: Call.EPOLL}, {Unreadable.id: frames})
        assert found == runs


def test_process_whose_stack_is_read_soon_is_asked_then() -> None:
    loops, doing = EventLoops(), {Unreadable.id: Call.EPOLL}
    assert loops.read(1.0, [Unreadable()], doing, {}, more=True) == set()
    assert loops.read(1.1, [Unreadable()], doing, {Unreadable.id: (LOOP,)}) == {Unreadable.id}


def test_process_without_memory_runs_none_that_is_known() -> None:
    hidden = SimpleNamespace(id=snapshots.pid(11), memory=None)
    assert EventLoops().read(1.0, [hidden], {hidden.id: Call.EPOLL}, {}) == set()
