"""Who is inside a `threading` lock, read from outside, and deadlocks through such locks; on each Python there is."""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import PROGRAMS, start, wait_until
from support.pythons import VERSIONS, need, thinned

from semtrace.cpython.withblocks import handlers
from semtrace.model import Advice, Finding, HeldBy, MayBeGate, RingLink, Snapshot, ThreadLockUse
from semtrace.observe.observer import Observer
from semtrace.servers import discovery
from semtrace.waits import graph

# Enough where the frames, which each version lays out in its own way, do not decide.
SOME = [version for version in VERSIONS if version in ("3.8", "3.11", "3.13", "3.15")]


class Program:
    def __init__(self, observer: Observer, ids: Path) -> None:
        self.observer = observer
        self._ids = ids

    def until(self, condition: Callable[[Snapshot], object], what: str) -> Snapshot:
        last: list[Snapshot] = []

        def look() -> object:
            last[:] = [self.observer.snapshot()]
            return condition(last[0])

        wait_until(look, what=what)
        return last[0]

    def looks(self, seconds: float = 2.5) -> Iterator[Snapshot]:
        """Snapshots for longer than anybody has to sleep before he is spoken of."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield self.observer.snapshot()
            time.sleep(0.05)

    def tid(self, name: str) -> int:
        def read() -> int:
            return int(ast.literal_eval(self._ids.read_text()).get(name, 0)) if self._ids.exists() else 0

        return wait_until(read, what=name)


@contextlib.contextmanager
def program(version: str, case: str, folder: Path) -> Iterator[Program]:
    ids = folder / "ids"
    with start(need(version), str(PROGRAMS / "threaded.py"), case, str(ids)) as (popen, _):
        observer = Observer(discovery.server_of(popen.pid), all_thread_locks=True)
        try:
            yield Program(observer, ids)
        finally:
            observer.close()


def use(snapshot: Snapshot, name: str) -> ThreadLockUse:
    found = (lock.processes[0] for lock in snapshot.thread_locks if lock.name.endswith(f".{name}"))
    return next(found, ThreadLockUse(snapshot.server.id, False))


def holder(snapshot: Snapshot, name: str) -> int | None:
    found = use(snapshot, name).holder
    return found.tid if found else None


def deadlocks(snapshot: Snapshot) -> list[Finding]:
    return [finding for finding in snapshot.findings if finding.code == "deadlock"]


def named(snapshot: Snapshot) -> list[Finding]:
    """The deadlocks once all locks have names: on a loaded machine the walk for these may take longer."""
    return deadlocks(snapshot) if all(lock.name for lock in snapshot.locks) else []


PAIRS = {"mixed": {"shared", "guard"}, "plain": {"guard", "other"}, "recursive": {"guard", "tree"}}


@pytest.mark.parametrize(("version", "case"), thinned(VERSIONS, list(PAIRS)))
def test_two_threads_that_wait_for_each_other(version: str, case: str, tmp_path: Path) -> None:
    names = PAIRS[case]
    with program(version, case, tmp_path) as running:
        snapshot = running.until(named, "the deadlock")
        (finding,) = deadlocks(snapshot)
        assert finding.severity == "error"
        assert {lock.name.rpartition(".")[2] for lock in finding.locks} == names
        assert any(lock.id is None for lock in finding.locks)
        assert {thread.tid for thread in finding.threads} == {running.tid("with"), running.tid("waits")}


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_waits_for_the_lock_it_is_inside(version: str, tmp_path: Path) -> None:
    with program(version, "reentry", tmp_path) as running:
        snapshot = running.until(lambda seen: seen.findings, "the finding")
        (finding,) = snapshot.findings
        assert (finding.code, finding.severity) == ("stuck", "error")
        (held,) = (fact for fact in finding.facts if isinstance(fact, HeldBy))
        assert [hold.thread.tid for hold in held.holds] == [running.tid("with")]
        assert finding.remedy.advice[0] in (Advice.USE_THREADING_RLOCK, Advice.USE_THREADING_RLOCK_NO_GREENLETS)
        assert holder(snapshot, "guard") == running.tid("with")


@pytest.mark.parametrize(("version", "case"), thinned(VERSIONS, ["shared_again", "managed_again", "condition_again"]))
def test_thread_waiting_for_its_own_shared_lock_is_a_deadlock(version: str, case: str, tmp_path: Path) -> None:
    with program(version, case, tmp_path) as running:
        snapshot = running.until(lambda seen: [d for d in named(seen) if d.severity == "error"], "the deadlock")
        (finding,) = deadlocks(snapshot)
        (link,) = (fact for fact in finding.facts if isinstance(fact, RingLink))
        assert (link.holds, link.took, link.thread.tid) == (link.wants, False, running.tid("with"))
        assert finding.name.endswith("shared")


@pytest.mark.parametrize("version", SOME)
def test_one_that_waits_at_a_gate_is_no_error(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is inside no `with` may be released by anybody; beside other threads it takes a longer wait to be told."""
    monkeypatch.setattr(graph, "LOOSE_S", 2.0)
    with program(version, "gate", tmp_path) as running:
        first = running.until(deadlocks, "the wait")
        # A busy machine may not read the frames in every sample.
        for snapshot in [first, *running.looks(1.5)]:
            for finding in deadlocks(snapshot):
                assert finding.severity == "warning"
                assert finding.fact(MayBeGate)


@pytest.mark.parametrize("version", VERSIONS)
def test_owner_is_found_through_calls_loops_and_nested_blocks(version: str, tmp_path: Path) -> None:
    with program(version, "deep", tmp_path) as running:
        snapshot = running.until(lambda seen: holder(seen, "guard") and holder(seen, "other"), "both holders")
        assert holder(snapshot, "guard") == running.tid("with")
        assert holder(snapshot, "other") == running.tid("with")
        assert [each.tid for each in use(snapshot, "guard").waiters] == [running.tid("waits")]
        assert not deadlocks(snapshot)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_has_left_is_not_taken_for_the_holder(version: str, tmp_path: Path) -> None:
    """Its frame's stack may well keep the lock's __exit__, above what is live."""
    with program(version, "stale", tmp_path) as running:
        running.tid("has")
        running.until(lambda seen: any((w.asleep_s or 0) > 1.2 for w in use(seen, "guard").waiters), "a long wait")
        for snapshot in running.looks(1.5):
            assert use(snapshot, "guard").waiters
            assert holder(snapshot, "guard") in (None, running.tid("by hand"))
            assert not deadlocks(snapshot)


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize("case", ["timed", "convoy"])
def test_a_timed_wait_and_a_convoy_are_no_deadlock(version: str, case: str, tmp_path: Path) -> None:
    with program(version, case, tmp_path) as running:
        running.until(lambda seen: use(seen, "guard").waiters, "somebody who waits")
        for snapshot in running.looks():
            assert not deadlocks(snapshot)


def test_an_exception_table_is_read_as_cpython_writes_it() -> None:
    code = compile("with a:\n  with b:\n    c()\n", "x", "exec")
    table = getattr(code, "co_exceptiontable", b"")
    if not table:
        pytest.skip("this Python has blocks instead")
    import dis

    expected = [
        (e.start // 2, e.end // 2, e.target // 2, e.depth, e.lasti)
        for e in dis._parse_exception_table(code)  # type: ignore[attr-defined]
    ]
    assert list(handlers(table)) == expected
    assert list(handlers(b"\xff" * 50 + b"\x00")) == []
