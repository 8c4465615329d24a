"""The chaos test for a minute, and proof that its judge sees wrong verdicts. For a night: `python -m tests.chaos`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import alive, child_pids, marked_pids, start_ticks, wait_until

from semtrace.model import Finding, FindingCode, Holder, Lock, LockRef, LockState, Lost, ProcessId, Remedy, SemId
from semtrace.observe.observer import Observer
from tests.chaos import episode, judge
from tests.chaos.families import BY_NAME, HOST
from tests.chaos.orphans import post
from tests.chaos.programs import journal as j
from tests.chaos.truth import Copy, Entry, Reader, Truth, Waits, Who, truth_between, waits_between

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context("fork")


@pytest.mark.slow
def test_no_snapshot_contradicts_the_journal() -> None:
    """Some programs for some seconds each, by a new seed every time: the report says which, and how to run it again."""
    done = chaos("--seconds", "24", "--jobs", "2", "--seed", str(random.randrange(1 << 30)))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def chaos(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.chaos", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


# -- the judge: each wrong statement is caught, and nothing else


ME = ProcessId(100, 7)
OTHER = ProcessId(101, 8)
SEMAPHORE = SemId(0, 1, 5)


def entry(units: int = 1, kind: str = "Lock") -> Entry:
    return Entry(0, 2, 5, j.KINDS.index(kind), units, kind == "Semaphore", 0x1000, 100)


def truth(*holders: ProcessId, dead: int = 0, units: int = 1, kind: str = "Lock", acting: object = ()) -> Truth:
    return Truth(entry(units, kind), {tuple(h): 1 for h in holders}, dead, frozenset(map(tuple, acting)))  # type: ignore[arg-type, call-overload]


def seen(state: LockState, *holders: ProcessId, reason: str | None = None, lost: Lost | None = None) -> Lock:
    held = tuple(Holder(process, process.pid, 1) for process in holders)
    return Lock(SEMAPHORE, "Lock", state, None, 1, holders=held, reason=reason, lost=lost)


def error(code: str = "orphaned-lock") -> Finding:
    return Finding(FindingCode(code), "error", (LockRef(SEMAPHORE, "lock"),), (), (), Remedy(()))


RIGHT = [
    (truth(), seen("free")),
    (truth(ME), seen("held", ME)),
    (truth(ME), seen("contended", ME)),
    (truth(dead=1), seen("orphaned")),
    (truth(ME), seen("unknown")),
    (truth(dead=1), seen("unknown")),
    (truth(ME, dead=1, units=2), seen("exhausted", ME, reason="1 of 2 lost", lost=Lost(1, True))),
    (truth(ME, units=2, kind="Semaphore"), seen("held", ME)),
    (truth(dead=1, units=2, kind="Semaphore"), seen("free")),
    (truth(dead=2, units=2, kind="Semaphore"), seen("exhausted")),
]

WRONG = [
    (truth(), seen("held", ME), judge.FALSE_HOLDER),
    (truth(ME), seen("held", OTHER), judge.FALSE_HOLDER),
    (truth(ME, units=2), seen("exhausted", ME, OTHER), judge.FALSE_HOLDER),
    (truth(dead=1), seen("held", ME), judge.FALSE_HOLDER),
    (truth(ME), seen("free"), judge.FALSE_FREE),
    (truth(dead=1), seen("free"), judge.FALSE_FREE),
    (truth(ME, units=2, kind="Semaphore"), seen("free"), judge.FALSE_FREE),
    (truth(ME), seen("orphaned"), judge.FALSE_ORPHAN),
    (truth(), seen("orphaned"), judge.FALSE_ORPHAN),
    (truth(ME, dead=1, units=2), seen("orphaned"), judge.FALSE_ORPHAN),
    (truth(ME, OTHER, units=2), seen("exhausted", ME, reason="lost", lost=Lost(1, True)), judge.FALSE_ORPHAN),
    (truth(ME), seen("held"), judge.HELD_BY_NOBODY),
    (truth(), seen("held"), judge.HELD_BY_NOBODY),
    (truth(ME, units=1, kind="Semaphore"), seen("exhausted", reason="holders are gone"), judge.HELD_BY_NOBODY),
    (truth(ME, OTHER, units=2), seen("exhausted", ME), judge.MISSED_HOLDER),
    (truth(), seen("held", ME, reason="it may have inherited it"), judge.QUALIFIED),
]


@pytest.mark.parametrize(("true", "lock"), RIGHT)
def test_right_verdict_passes(true: Truth, lock: Lock) -> None:
    assert judge.judge(true, lock) == []


@pytest.mark.parametrize(("true", "lock", "what"), WRONG)
def test_wrong_verdict_is_caught(true: Truth, lock: Lock, what: str) -> None:
    assert [wrong.what for wrong in judge.judge(true, lock)] == [what]


def test_error_about_a_healthy_lock_is_caught() -> None:
    assert [wrong.what for wrong in judge.judge(truth(ME), seen("held", ME), [error()])] == [judge.FALSE_ERROR]
    assert judge.judge(truth(dead=1), seen("orphaned"), [error()]) == []
    itself = truth(ME, acting=[ME])
    assert judge.judge(itself, seen("held", ME), [error("deadlock")]) == []


# Three locks by their inodes: the finding is about all of them, and its first one is B.
A, B, C = 4, 5, 6
T1, T2, T3 = Who(100, 7, 100), Who(101, 8, 101), Who(101, 8, 201)


def of(inode: int, *threads: Who, dead: int = 0, units: int = 1) -> tuple[int, Truth]:
    held = dict(Counter((thread.pid, thread.start_ticks) for thread in threads))
    return inode, Truth(entry(units)._replace(inode=inode), held, dead, threads=frozenset(threads))


def judged_together(waits: Waits) -> list[str]:
    """What is wrong with an error about B, C and A."""
    locks = tuple(LockRef(SemId(0, 1, inode), "lock") for inode in (B, C, A))
    stuck = Finding(FindingCode.STUCK, "error", locks, (), (), Remedy(()))
    true = waits.truths[B]
    holders = [ProcessId(*process) for process in true.holders]
    return [wrong.what for wrong in judge.judge(true, seen("held", *holders), [stuck], waits)]


ORPHAN = of(A, dead=1)
STUCK = {
    "two hold and wait for the orphan": Waits(dict([ORPHAN, of(B, T1), of(C, T2)]), {T1: A, T2: A}),
    "one holds both": Waits(dict([ORPHAN, of(B, T1), of(C, T1)]), {T1: A}),
    "one behind the other": Waits(dict([ORPHAN, of(B, T1), of(C, T2)]), {T1: C, T2: A}),
    "all orphaned": Waits(dict([ORPHAN, of(B, dead=1), of(C, dead=1)])),
    "a ring": Waits(dict([of(A, T1), of(B, T2), of(C, T2)]), {T1: B, T2: A}),
    "a holder that is stopped": Waits(dict([of(A, T1), of(B, T2), of(C, T2)]), {T2: A}, frozenset([T1[:2]])),
    "each thread of two that have units": Waits(
        dict([ORPHAN, of(B, T2, T3, units=2), of(C, T1)]), {T1: A, T2: A, T3: C}
    ),
    "what the orphan is like is not known": Waits(dict([of(B, T1), of(C, T1)]), {T1: A}),
}
GOES_ON = {
    "the first one's holder": Waits(dict([ORPHAN, of(B, T1), of(C, T2)]), {T2: A}),
    "another one's holder": Waits(dict([ORPHAN, of(B, T1), of(C, T2)]), {T1: A}),
    "all holders": Waits(dict([of(A, T1), of(B, T1), of(C, T2)])),
    "the last of a chain": Waits(dict([of(A, T3), of(B, T1), of(C, T2)]), {T1: C, T2: A}),
    "another thread of the process that waits": Waits(dict([ORPHAN, of(B, T2), of(C, T1)]), {T1: A, T3: A}),
    "one thread of two that have units": Waits(dict([ORPHAN, of(B, T2, T3, units=2), of(C, T1)]), {T1: A, T2: A}),
    "who takes the unit that is left": Waits(dict([ORPHAN, of(B, T2, units=2), of(C, T1)]), {T1: A, T2: A}),
    "who takes one that is free": Waits(dict([ORPHAN, of(B, T1), of(C)]), {T1: A}),
    "what is known, and the orphan is not": Waits(dict([of(B, T1), of(C, T2)]), {T1: A}),
}


@pytest.mark.parametrize("waits", STUCK.values(), ids=STUCK.keys())
def test_error_passes_where_each_lock_leads_to_an_end(waits: Waits) -> None:
    assert judged_together(waits) == []


@pytest.mark.parametrize("waits", GOES_ON.values(), ids=GOES_ON.keys())
def test_error_is_caught_where_somebody_can_go_on(waits: Waits) -> None:
    assert judged_together(waits) == [judge.FALSE_ERROR]


def test_dropped_lock_cannot_be_held() -> None:
    assert [wrong.what for wrong in judge.judge_dropped(seen("held", ME))] == [judge.DROPPED]
    assert judge.judge_dropped(seen("free")) == []


# -- the truth: from the journal and the semaphore


class Book:
    """A journal with one lock of this very process, and copies of it."""

    def __init__(self, path: Path, kind: str = "Lock", units: int = 1) -> None:
        j.make(path)
        self.reader = Reader(path)
        self.journal = j.Journal(str(path))
        self.lock = getattr(CONTEXT, kind)(*((units,) if "Semaphore" in kind else ()))
        self.journal.register(0, self.lock, kind, units)
        self.mine = (os.getpid(), start_ticks(os.getpid()))

    def take(self) -> None:
        self.journal.begin_acquire(0)
        self.lock.acquire()
        self.journal.end_acquire(0)

    def give(self) -> None:
        self.journal.begin_release(0)
        self.lock.release()
        self.journal.end_release(0)

    def truth(self) -> Truth | str:
        before = self.reader.copy()
        return truth_between(before, self.reader.copy(), 0)

    def copy(self) -> Copy:
        return self.reader.copy()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "journal")
    yield made
    made.reader.close()


def test_truth_follows_a_lock(book: Book) -> None:
    assert book.truth() == Truth(book.copy().entry(0))
    book.take()
    assert book.truth().holders == {book.mine: 1}  # type: ignore[union-attr]
    book.give()
    assert book.truth().holders == {}  # type: ignore[union-attr]


def test_what_moved_meanwhile_is_not_judged(book: Book) -> None:
    before = book.copy()
    book.take()
    book.give()
    assert truth_between(before, book.copy(), 0) == "moved"


def test_acquire_under_way_is_decided_by_the_value(book: Book) -> None:
    book.journal.begin_acquire(0)
    assert book.truth().holders == {}  # type: ignore[union-attr]
    book.lock.acquire()
    assert book.truth().holders == {book.mine: 1}  # type: ignore[union-attr]


def test_value_that_no_cell_accounts_for_is_broken(book: Book) -> None:
    book.take()
    book.give()
    book.lock.acquire()
    assert book.truth() == "broken"


def test_what_a_dead_process_held_is_nobodys(book: Book) -> None:
    with child(book.take) as pid:
        held = {(pid, start_ticks(pid))}
        wait_until(lambda: isinstance(found := book.truth(), Truth) and found.holders.keys() == held)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        found = book.truth()
        assert isinstance(found, Truth)
        assert (found.holders, found.dead) == ({}, 1)


def test_process_killed_between_acquire_and_its_entry_has_the_unit(book: Book) -> None:
    def take() -> None:
        book.journal.begin_acquire(0)
        book.lock.acquire()

    with child(take) as pid:
        wait_until(lambda: book.copy().values[0] == 0)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        found = book.truth()
        assert isinstance(found, Truth)
        assert found.dead == 1


def test_release_by_a_child_ends_the_hold_of_its_parent(book: Book) -> None:
    book.take()
    me = book.journal.me()

    def give() -> None:
        book.journal.begin_release(0, of=me)
        book.lock.release()
        book.journal.end_release(0, of=me)

    with child(give):
        wait_until(lambda: isinstance(found := book.truth(), Truth) and not found.holders)
    assert book.copy().overlaps() == 0


def test_two_inside_are_noticed(book: Book) -> None:
    with child(book.take):
        wait_until(lambda: book.copy().values[0] == 0)
        wait_until(lambda: isinstance(book.truth(), Truth))
        assert post(book.copy().entry(0), 1) or pytest.skip("needs root")
        book.take()
        assert book.truth() == "overlap"
        assert book.copy().overlaps() == 1


def test_who_waits_is_read_from_the_journal(book: Book) -> None:
    """A child has one lock and waits for another, which is orphaned and then given back."""
    other = CONTEXT.Lock()
    book.journal.register(1, other, "Lock", 1)
    orphaned, held = (book.copy().entry(index).inode for index in range(2))

    def wait() -> None:
        book.journal.begin_acquire(1)
        other.acquire()
        book.journal.end_acquire(1)
        book.take()

    def truths(before: Copy, after: Copy) -> dict[int, Truth]:
        found = {entry.inode: truth_between(before, after, entry.index) for entry in before.entries}
        return {inode: truth for inode, truth in found.items() if isinstance(truth, Truth)}

    def waits() -> Waits:
        before, after = book.copy(), book.copy()
        return waits_between(before, after, truths(before, after))

    with child(book.take) as dead:
        wait_until(lambda: book.copy().values[0] == 0)
        wait_until(lambda: any(truth.holders for truth in waits().truths.values()))
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: not alive(dead))
    with child(wait) as pid:
        thread = Who(pid, start_ticks(pid), pid)
        wait_until(lambda: waits().wanted == {thread: orphaned})
        assert (judge.is_stuck(orphaned, waits()), judge.is_stuck(held, waits())) == (True, True)
        (slot,) = (cell.slot for cell in book.copy().cells(0) if cell.who.pid == dead)
        book.journal.begin_release(0, of=slot)
        book.lock.release()
        book.journal.end_release(0, of=slot)
        wait_until(lambda: len((now := waits()).truths) == 2 and not now.wanted)
        assert (judge.is_stuck(orphaned, waits()), judge.is_stuck(held, waits())) == (False, False)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: waits().stopped == {thread[:2]})
        assert judge.is_stuck(held, waits())


@pytest.mark.parametrize(("kind", "waits"), [("Lock", True), ("RLock", False)])
def test_thread_waits_for_a_lock_it_has_already(tmp_path: Path, kind: str, waits: bool) -> None:
    book = Book(tmp_path / "journal", kind)
    book.take()
    book.journal.begin_acquire(0)
    copy, truth = book.copy(), book.truth()
    assert isinstance(truth, Truth)
    inode = truth.entry.inode
    assert judge.is_stuck(inode, waits_between(copy, copy, {inode: truth})) is waits
    book.reader.close()


def test_thread_that_has_just_got_it_waits_no_more(book: Book) -> None:
    book.journal.begin_acquire(0)
    book.lock.acquire()
    copy, truth = book.copy(), book.truth()
    assert isinstance(truth, Truth)
    assert waits_between(copy, copy, {truth.entry.inode: truth}).wanted == {}


@contextlib.contextmanager
def child(act: object) -> Iterator[int]:
    """A forked child that does it and then waits to be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            act()  # type: ignore[operator]
            signal.pause()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- the whole


def test_wrong_observer_fails_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict that is made wrong on its way is caught in a real program."""
    real = Observer.snapshot

    def lying(self: Observer) -> object:
        snapshot = real(self)
        return replace(snapshot, locks=tuple(replace(lock, state="free", holders=()) for lock in snapshot.locks))

    monkeypatch.setattr(Observer, "snapshot", lying)
    for seed in range(1, 20):  # where the machine is busy, an episode may have no moment that can be judged
        tally = episode.run(episode.Setting(BY_NAME["healthy"], seed, 3.0, HOST))
        if tally.wrong:
            break
    assert any(judge.FALSE_FREE in what for what in tally.wrong)
    assert tally.failed
    assert tally.evidence[0]["again"]


def test_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--only", "lock", "--seconds", "60"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    popen = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        wait_until(lambda: any("journal" in name for _, _, names in os.walk(tmp_path) for name in names))
        wait_until(lambda: child_pids(popen.pid) and child_pids(child_pids(popen.pid)[0]))
        marks = {str(path) for path in tmp_path.glob("semtrace-test-*")}
        os.killpg(popen.pid, signal.SIGINT)
        output, _ = popen.communicate(timeout=60)
    finally:
        popen.kill()
        popen.communicate()
    assert b"interrupted" in output, output
    assert not list(tmp_path.iterdir())
    wait_until(lambda: not any(map(marked_pids, marks)), what="the killed processes to be gone")


def test_programs_clean_up_and_can_be_watched() -> None:
    """A short episode of the plainest family: its judgements are counted, its processes are gone."""
    began_s = time.monotonic()
    tally = episode.run(episode.Setting(BY_NAME["lock"], 3, 3.0, HOST))
    assert not tally.troubles, tally.troubles
    assert tally.judged.total() > 0
    assert time.monotonic() - began_s < 60
