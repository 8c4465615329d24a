"""Waits for file locks: they follow the holders, and threads that poll stay waiters while nobody could release."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from semtrace.cpython.polling import Polling
from semtrace.lazydata import replace
from semtrace.linux.filelocks import FileLock, locked_descriptors
from semtrace.model import (
    Doubt,
    FileLockType,
    ProcessId,
    SemId,
    Snapshot,
    Target,
    ThreadId,
    Wait,
    WaitKind,
    Wakers,
)
from semtrace.observe.blocked.knots import Knots
from semtrace.observe.files import pollers
from semtrace.observe.files.filelocks import FileLocks
from semtrace.observe.files.filewaits import FileWait
from semtrace.observe.files.pollers import Poller, Pollers

HOLDER, OTHER, WAITER = ProcessId(10, 1), ProcessId(11, 1), ProcessId(12, 1)
THREAD = ThreadId(WAITER, 12)
FILE = SemId(8, 1, 99)
POLLER = Poller(THREAD, Polling("/lock", True, False, False, 0, began_s=90.0), "/lock", FILE, 95.0)


def knots(waits: Collection[Wait]) -> Knots:
    made = Knots(cast("Any", None), cast("Any", SimpleNamespace(private_names=None)), lambda: ())
    made._blocking = cast("Any", SimpleNamespace(waits=lambda _: waits))
    return made


@pytest.mark.parametrize("before", [(), (OTHER,)])
def test_wait_follows_the_holders_of_now(before: tuple[ProcessId, ...]) -> None:
    """The pass that made the wait is a second old: the holder was not known then, or was another."""
    old = Wait(THREAD, Target(WaitKind.FILE_LOCK, "/lock"), timed=False, wakers=Wakers((), before, Doubt.UNREADABLE))
    judge = knots([old])
    judge._files = {THREAD: FileWait(THREAD, FILE, "/lock", True, FileLockType.FLOCK, (HOLDER,), complete=True)}
    snapshot = cast("Snapshot", SimpleNamespace(processes=(), monotonic_s=100.0))
    replaced: list[Wait] = []

    def take(_: object, blocked: tuple[Wait, ...]) -> Snapshot:
        replaced.extend(blocked)
        return snapshot

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semtrace.observe.blocked.knots.replace", take)
        judge._with_waits(snapshot)
    assert [(each.wakers.processes, each.wakers.doubt) for each in replaced] == [((HOLDER,), None)]


@pytest.mark.parametrize(
    ("asleep_s", "holders", "unbroken"),
    [
        ({HOLDER: 6.0}, (HOLDER,), True),
        ({HOLDER: 4.0}, (HOLDER,), False),
        ({}, (HOLDER,), False),
        ({HOLDER: 6.0, OTHER: 4.0}, (HOLDER, OTHER), False),
        ({HOLDER: 6.0}, (HOLDER, None), False),
        ({HOLDER: 6.0}, (), False),
    ],
)
def test_poller_waits_on_while_no_holder_ran(
    asleep_s: dict[ProcessId, float], holders: tuple[ProcessId | None, ...], unbroken: bool
) -> None:
    """It was asked 5 s ago: who has slept for longer has not released since."""
    files = FileLocks()
    files._rows.sleepers = cast("Any", SimpleNamespace(seconds=lambda thread: asleep_s.get(thread[0])))
    kept = files._kept(100.0, POLLER, holders)
    assert (kept.unbroken, kept.for_s) == (unbroken, 10.0 if unbroken else None)


def test_poller_whose_call_has_no_begin_is_not_unbroken() -> None:
    unknown = replace(POLLER, polling=replace(POLLER.polling, began_s=None))
    assert not pollers.still_polling(unknown, 100.0).unbroken


def test_poller_is_asked_again_at_once_when_its_stack_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that it would be no waiter for seconds: a process in which nobody polls is asked less often."""
    answers = [(POLLER,), (), (POLLER,)]
    asked = Pollers()
    monkeypatch.setattr(pollers, "_sleeping", lambda _: [THREAD])
    monkeypatch.setattr(asked, "_pollers", lambda *_: answers.pop(0))
    watched = [cast("Any", SimpleNamespace(id=WAITER, memory=object()))]
    assert len(asked.read(95.0, watched)) == 1
    assert len(asked.read(196.0, watched)) == 1


def test_own_posix_lock_never_blocks_its_process() -> None:
    """A writer of a database that polls for all of it has a part already."""
    files = FileLocks()
    own, other = (FileLock(FileLockType.POSIX, True, pid, FILE) for pid in (WAITER.pid, os.getpid()))
    members = {WAITER.pid: cast("Any", SimpleNamespace(id=WAITER))}
    files._index = replace(files._index, by_file={FILE: (own, other)}, locks=(own, other))
    wait = files._polled_wait(100.0, POLLER, members)
    assert [holder.pid for holder in wait.holders] == [os.getpid()]
    files._index = replace(files._index, by_file={FILE: (own,)}, locks=(own,))
    assert not files._polled_wait(100.0, POLLER, members).holders


def test_path_too_long_to_show_hides_no_other_descriptor(tmp_path: Path) -> None:
    """The kernel shows no path of more than a page (fs/d_path.c): the file may be locked all the same."""
    before = os.getcwd()
    with (tmp_path / "plain").open("w") as plain:
        fcntl.flock(plain, fcntl.LOCK_EX)
        try:
            os.chdir(tmp_path)
            for _ in range(25):
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
            with open("deep", "w") as deep:
                fcntl.flock(deep, fcntl.LOCK_EX)
                number = os.stat(deep.fileno()).st_ino
                inodes = {number, os.stat(plain.fileno()).st_ino}
                found = [each for each in locked_descriptors(os.getpid(), inodes) if each is not None]
        finally:
            os.chdir(before)
    assert sorted(each.path for each in found) == ["", str(tmp_path / "plain")]
