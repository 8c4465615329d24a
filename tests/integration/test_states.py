"""A real lock in every state, on every interpreter there is: what semtrace says against what the target did."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support import alive, wait_until
from support.targets import (
    FEW,
    INTERPRETERS,
    SOME,
    Target,
    keeps_names,
    may_have,
    observing,
    only,
    plain,
    state,
    target,
    until,
    watch,
)

from semtrace.linux.process import read_stat
from semtrace.model import Lock, Server, Snapshot, UnitsLost
from semtrace.observe.observer import Observer
from semtrace.reports.dump import report

every = pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS.keys())
some = pytest.mark.parametrize("python", SOME.values(), ids=SOME.keys())
few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())
newest = pytest.mark.parametrize("python", list(SOME.values())[-1:], ids=list(SOME)[-1:])


def who(lock: Lock) -> list[tuple[int, int | None, int]]:
    return [(h.pid, h.tid, h.count) for h in lock.holders]


def by(driven: Target, name: str, count: int = 1) -> tuple[int, int, int]:
    return driven.pids[name], driven.tids[name], count


# -- a plain lock


@every
def test_lock_goes_from_free_to_held_to_contended_and_back(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b", "c")
        with observing(t.root) as observer:
            lock = state(observer, "free")
            assert (lock.kind, lock.value, lock.maximum, lock.linked) == ("Lock", 1, 1, keeps_names(python))
            assert {p.pid for p in lock.mapped_by} == {t.root, *t.pids.values()}
            assert not lock.holders
            assert not lock.waiters

            t.do("b", "lock.acquire()")
            assert who(state(observer, "held")) == [by(t, "b")]

            t.block("c", "lock")
            until(observer, lambda s: len(only(s).waiters) == 1)
            t.block("a", "lock")
            snapshot = until(observer, lambda s: len(only(s).waiters) == 2)
            lock = only(snapshot)
            assert lock.state == "contended"
            assert who(lock) == [by(t, "b")]
            assert [(w.pid, w.tid) for w in lock.waiters] == [(t.pids[n], t.tids[n]) for n in "ca"], "not as they came"
            assert lock.waiters[0].for_s is not None
            holds = {p.pid: p.holds for p in snapshot.processes if p.holds}
            waits = {p.pid: p.waits_on for p in snapshot.processes if p.waits_on}
            assert holds == {t.pids["b"]: (lock.id,)}
            assert waits == {t.pids["a"]: (lock.id,), t.pids["c"]: (lock.id,)}

            t.do("b", "lock.release()")
            first = "c" if t.answer("c") else "a"
            t.do(first, "lock.release()")
            t.done("a")
            t.do("a", "lock.release()")
            assert not state(observer, "free").waiters


@every
def test_the_holder_is_named_with_the_thread_that_took_it(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        tid = t.thread("a2", by="a")
        assert tid != t.pids["a"]
        t.do("a2", "lock.acquire()")
        with observing(t.root) as observer:
            assert who(state(observer, "held")) == [(t.pids["a"], tid, 1)]


@some
def test_the_master_may_hold_it(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            assert who(state(observer, "held", never="orphaned")) == [by(t, "p")]
            assert not any(only(s).state == "orphaned" for s in watch(observer, 0.4))


@some
def test_a_childs_child_may_hold_it(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        t.fork("aa", by="a")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("aa", "lock.acquire()")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "aa")]


@some
def test_an_rlock_shows_its_depth(python: str) -> None:
    with target(python, "lock = mp.RLock()") as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            assert state(observer, "free").kind == "RLock"
            t.do("a", "[lock.acquire() for _ in range(3)]")
            assert who(state(observer, "held")) == [by(t, "a", 3)]
            t.do("a", "lock.release()")
            assert who(only(observer.snapshot())) == [by(t, "a", 2)]
            t.do("a", "[lock.release() for _ in range(2)]")
            state(observer, "free")


@every
def test_a_semaphore_shows_all_its_holders_and_counts(python: str) -> None:
    with target(python, "lock = mp.Semaphore(4)") as t:
        t.fork("a", "b", "c")
        with observing(t.root) as observer:
            lock = state(observer, "free")
            assert (lock.kind, lock.value) == ("Semaphore", 4)
            t.do("a", "[lock.acquire(), lock.acquire()]")
            t.do("c", "lock.acquire()")
            lock = state(observer, "held")
            assert lock.value == 1
            assert sorted(who(lock)) == sorted([by(t, "a", 2), by(t, "c")])
            t.do("b", "lock.acquire()")
            assert sorted(who(state(observer, "exhausted"))) == sorted([by(t, "a", 2), by(t, "b"), by(t, "c")])


@every
def test_bounded_semaphore_with_all_units_taken_is_exhausted(python: str) -> None:
    with target(python, "lock = mp.BoundedSemaphore(2)") as t:
        t.fork("a", "b", "c")
        with observing(t.root) as observer:
            assert (state(observer, "free").kind, state(observer, "free").maximum) == ("BoundedSemaphore", 2)
            t.do("a", "lock.acquire()")
            assert who(state(observer, "held")) == [by(t, "a")]
            t.do("b", "lock.acquire()")
            t.block("c", "lock")
            lock = state(observer, "exhausted")
            assert sorted(who(lock)) == sorted([by(t, "a"), by(t, "b")])
            until(observer, lambda s: [w.pid for w in only(s).waiters] == [t.pids["c"]])
            t.kill("a")
            lock = until(observer, lambda s: "1 of 2" in (only(s).reason or "")).locks[0]
            assert who(lock) == [by(t, "b")]
            snapshot = until(observer, lambda s: bool(only(s).lost and only(s).lost.proved))  # type: ignore[union-attr]
            assert who(only(snapshot)) == [by(t, "b")], "what is not lost has its holder still"
            (finding,) = snapshot.findings
            assert (finding.code, finding.severity) == ("orphaned-lock", "warning")
            assert finding.fact(UnitsLost)


# -- orphaned


@every
def test_a_lock_whose_holder_was_killed_is_orphaned(python: str) -> None:
    _end_while_it_holds(python, "SIGKILL")


@few
@pytest.mark.parametrize("end", ["SIGTERM", "os._exit"])
def test_a_lock_whose_holder_ended_otherwise_is_orphaned(python: str, end: str) -> None:
    _end_while_it_holds(python, end)


def _end_while_it_holds(python: str, end: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        with observing(t.root) as observer:
            state(observer, "contended")
            if end == "os._exit":
                t.send("a", "os._exit(3)")
                wait_until(lambda: not alive(t.pids["a"]))
            else:
                t.kill("a", getattr(signal, end))
            lock = state(observer, "orphaned")
            assert lock.holders == ()
            assert lock.reason
            assert [w.pid for w in lock.waiters] == [t.pids["b"]]
            assert all(only(s).state == "orphaned" for s in watch(observer, 0.3))


@some
def test_lock_orphaned_before_the_first_snapshot_is_orphaned(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


@few
def test_an_orphan_that_somebody_releases_is_free_again(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")
            t.do("b", "lock.release()")
            state(observer, "free")
            t.do("p", "lock.acquire()")
            assert not any(only(s).state == "orphaned" for s in watch(observer, 0.4))


@few
def test_workers_that_come_and_go_do_not_hide_an_orphan(python: str) -> None:
    """As gunicorn does: each new worker blocks on the orphan and is killed in its turn."""
    with target(python) as t:
        t.fork("a")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            for name in ("b", "c", "d"):
                t.fork(name)
                t.block(name, "lock")
                assert [w.pid for w in state(observer, "orphaned").waiters] == [t.pids[name]]
                t.kill(name)


@few
def test_process_outside_the_server_is_reported_as_the_holder(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        t.fork_away("away", by="a")
        t.do("away", "lock.acquire()")
        with observing(t.root) as observer:
            assert who(state(observer, "held", never="orphaned")) == [by(t, "away")]
            assert {only(s).state for s in watch(observer, 0.5)} == {"held"}
            t.kill("away")
            state(observer, "orphaned")


@few
def test_a_stopped_holder_is_still_the_holder(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        os.kill(t.pids["a"], signal.SIGSTOP)
        with observing(t.root) as observer:
            snapshot = until(observer, lambda s: any(p.state == "stopped" for p in s.processes))
            assert who(only(snapshot)) == [by(t, "a")]
            assert {only(s).state for s in watch(observer, 0.4)} == {"held"}
            os.kill(t.pids["a"], signal.SIGCONT)


@some
def test_process_whose_main_thread_has_ended_may_hold_the_lock(python: str) -> None:
    """The kernel then calls the whole process a zombie, though its other threads run on."""
    with target(python) as t:
        t.fork("a")
        t.thread("a2", by="a")
        t.do("a2", "lock.acquire()")
        with observing(t.root) as observer:
            state(observer, "held")
            t.send("a", "ctypes.CDLL(None).pthread_exit(None)")
            wait_until(lambda: not alive(t.pids["a"]))
            assert t.do("a2", "lock._semlock._count()") == "1"
            assert not any(only(s).state == "orphaned" for s in watch(observer, 0.8))


# -- claims that deceive


@some
def test_claim_inherited_at_the_fork_is_not_a_hold(python: str) -> None:
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a", "b")
        with observing(t.root) as observer:
            # A child may have released it for its parent and taken it again: the counts would be the same.
            assert {only(s).state for s in watch(observer, 0.3)} == {"unknown"}
            t.do("p", "lock.release()")
            state(observer, "free")
            assert not any(only(s).holders for s in watch(observer, 1.2, 0.1))
            t.do("b", "lock.acquire()")
            assert who(state(observer, "held", never="orphaned"))[0][:2] == by(t, "b")[:2]
            assert [h.count for h in only(observer.snapshot()).holders] == [1]


@few
def test_inherited_claims_first_seen_while_locked_blame_nobody_wrongly(python: str) -> None:
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a", "b")
        t.do("p", "lock.release()")
        t.do("b", "lock.acquire()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.5):
                lock = only(snapshot)
                assert lock.state == "unknown" or [h.pid for h in lock.holders] == [t.pids["b"]]
                assert lock.reason


@few
def test_inherited_claim_is_no_certain_hold_when_the_holder_dies(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        t.do("a", "lock.acquire()")
        t.fork("aa", by="a")
        with observing(t.root) as observer:
            assert {only(s).state for s in watch(observer, 0.3)} == {"unknown"}
            t.kill("a")
            for snapshot in watch(observer, 0.6):
                assert not any(h.certain for h in only(snapshot).holders), "the copy of a dead holder's claim"


@some
def test_a_lock_handed_over_is_never_called_orphaned(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b", "c")
        t.do("a", "lock.acquire()")
        t.do("b", "lock.release()")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("c", "lock.acquire()")
            for snapshot in watch(observer, 0.5):
                lock = only(snapshot)
                assert lock.state != "orphaned"
                assert not lock.holders or [h.pid for h in lock.holders] == [t.pids["c"]]


@few
def test_process_that_acquires_after_releasing_for_another_is_the_holder(python: str) -> None:
    """a took, b released, b took: a's count is 1 and b's is 0, yet b holds it. b's count below zero was seen before."""
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.do("b", "lock.release()")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("b", "lock.acquire()")
            for snapshot in watch(observer, 0.5):
                assert [h.pid for h in only(snapshot).holders] in ([], [t.pids["b"]])


@few
def test_semaphore_units_copied_by_a_fork_are_not_all_holds(python: str) -> None:
    with target(python, "lock = mp.Semaphore(3)") as t:
        t.do("p", "lock.acquire()")
        t.fork("a", "b")
        with observing(t.root) as observer:
            lock = state(observer, "held")
            assert lock.reason or [h.pid for h in lock.holders] == [t.root]


# -- the trap: granted but not yet counted


def _granted_without_gil(t: Target) -> None:
    """Leaves b2, a thread of b, about to be granted the lock, and `a` its holder."""
    t.fork("a", "b")
    t.thread("b2", by="b")
    t.do("b", "sys.setswitchinterval(100)")
    t.do("a", "lock.acquire()")
    t.block("b2", "lock")


@every
def test_new_holder_waiting_for_the_gil_prevents_an_orphaned_verdict(python: str) -> None:
    with target(python) as t:
        _granted_without_gil(t)
        with observing(t.root) as observer:
            state(observer, "contended")
            end = t.hog("b")
            t.do("a", "lock.release()")
            may_have(observer, t.pids["b"])
            assert {only(s).state for s in watch(observer, 0.6)} <= {"unknown", "held"}
            may_have(observer, t.pids["b"])
            end()
            t.done("b2")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "b2")]


@some
@pytest.mark.parametrize("hog", ["hog_with_cpu()", "re.match('(a+)+$', 'a' * 60 + 'b')"], ids=["sum", "regex"])
def test_the_same_while_the_interpreter_lock_is_kept_by_computing(python: str, hog: str) -> None:
    with target(python) as t:
        _granted_without_gil(t)
        with observing(t.root) as observer:
            state(observer, "contended")
            t.send("b", f"[say('b', 'hogging', 0), {hog}]" if "re" in hog else hog)
            t._word("b", "hogging")
            running = Path(f"/proc/{t.pids['b']}/task/{t.pids['b']}/schedstat")
            before = int(running.read_text().split()[0])
            wait_until(lambda: int(running.read_text().split()[0]) - before > 5_000_000)
            t.do("a", "lock.release()")
            states = {only(s).state for s in watch(observer, 1.0)}
            assert "orphaned" not in states
            assert not only(observer.snapshot()).sure_holders


@some
def test_the_same_when_the_process_is_stopped_meanwhile(python: str) -> None:
    with target(python) as t:
        _granted_without_gil(t)
        with observing(t.root) as observer:
            end = t.hog("b")
            t.do("a", "lock.release()")
            may_have(observer, t.pids["b"])
            os.kill(t.pids["b"], signal.SIGSTOP)
            assert "orphaned" not in {only(s).state for s in watch(observer, 0.5)}
            os.kill(t.pids["b"], signal.SIGCONT)
            assert "orphaned" not in {only(s).state for s in watch(observer, 0.5)}
            end()
            t.done("b2")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "b2")]


@some
def test_stop_and_continue_do_not_hide_a_gil_wait(python: str) -> None:
    """A timed wait that was interrupted goes on as restart_syscall; a debugger's or profiler's visit does the same."""
    with target(python) as t:
        _granted_without_gil(t)
        end = t.hog("b")
        t.do("a", "lock.release()")
        os.kill(t.pids["b"], signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{t.pids['b']}/stat").read_text().split()[2] == "T")
        os.kill(t.pids["b"], signal.SIGCONT)
        wait_until(lambda: Path(f"/proc/{t.pids['b']}/stat").read_text().split()[2] != "T")
        with observing(t.root) as observer:
            assert "orphaned" not in {only(s).state for s in watch(observer, 0.8)}
            end()


@few
def test_stop_and_continue_do_not_hide_a_timed_waiter(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock", "True", "60")
        os.kill(t.pids["b"], signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{t.pids['b']}/stat").read_text().split()[2] == "T")
        os.kill(t.pids["b"], signal.SIGCONT)
        wait_until(lambda: Path(f"/proc/{t.pids['b']}/stat").read_text().split()[2] == "S")
        with observing(t.root) as observer:
            lock = state(observer, "contended")
            assert [w.pid for w in lock.waiters] == [t.pids["b"]]


@some
def test_handover_between_uncounted_holders_is_not_orphaned(python: str) -> None:
    """b2 was granted it and waits for its interpreter lock; then it counts, releases at once, and c2, which was seen
    asleep on the lock before, is granted it and waits for the interpreter lock of its own process.
    """
    with target(python) as t:
        t.fork("a", "b", "c")
        t.thread("b2", by="b")
        t.thread("c2", by="c")
        t.do("a", "lock.acquire()")
        t.send("b2", "[block(lock), lock.release()]")
        t._word("b2", "blocking")
        t.wait_futex("b2")
        t.block("c2", "lock")
        with observing(t.root) as observer:
            state(observer, "contended")
            end_b = t.hog("b")
            t.do("a", "lock.release()")
            may_have(observer, t.pids["b"])
            end_c = t.hog("c")
            observer.snapshot()
            end_b()
            t.done("b2")
            assert "orphaned" not in {only(s).state for s in watch(observer, 0.8)}
            end_c()
            t.done("c2")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "c2")]


@some
def test_handover_to_an_uncounted_newborn_process_is_not_orphaned(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.thread("b2", by="b")
        t.do("a", "lock.acquire()")
        t.send("b2", "[block(lock), lock.release()]")
        t._word("b2", "blocking")
        t.wait_futex("b2")
        with observing(t.root) as observer:
            state(observer, "contended")
            end_b = t.hog("b")
            t.do("a", "lock.release()")
            may_have(observer, t.pids["b"])
            t.fork("c")
            t.thread("c2", by="c")
            t.block("c2", "lock")
            end_c = t.hog("c")
            observer.snapshot()
            end_b()
            t.done("b2")
            assert "orphaned" not in {only(s).state for s in watch(observer, 0.8)}
            end_c()
            t.done("c2")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "c2")]


@few
def test_computing_worker_does_not_prevent_proof_of_an_orphan(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b", "c")
        t.start_doing("c", "compute()", "computing")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


def _static_interpreter() -> tuple[str, str] | None:
    """An interpreter that has CPython in the executable itself, as Debian's has, and its prefix."""
    probe = "import ctypes, sys; print('libpython' in open('/proc/self/maps').read(), sys.base_prefix)"
    for path in [*sorted(map(str, Path("/usr/bin").glob("python3.[0-9]*[0-9]"))), *INTERPRETERS.values()]:
        done = subprocess.run([path, "-c", probe], capture_output=True, text=True)
        shared, _, prefix = done.stdout.strip().partition(" ")
        if shared == "False":
            return path, prefix
    return None


def test_gil_is_recognised_in_an_executable_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the extension modules then have "python" in their names, and the interpreter lock is in none of those."""
    found = _static_interpreter()
    if found is None:
        pytest.skip("no interpreter without libpython here")
    python = shutil.copy(os.path.realpath(found[0]), tmp_path / "appserver")
    with monkeypatch.context() as env:
        env.setenv("PYTHONHOME", found[1])
        started = target(str(python))
        t = started.__enter__()
    try:
        _granted_without_gil(t)
        stat = read_stat(t.root)
        assert stat is not None
        # semtrace takes such a program only for a gunicorn, by its signals and files: that is left out here.
        observer = Observer(Server("python", stat.id, "appserver", stat.started_at, "root"))
        state(observer, "contended")
        t.hog("b")
        t.do("a", "lock.release()")
        assert "orphaned" not in {only(s).state for s in watch(observer, 0.8)}
        observer.close()
    finally:
        started.__exit__(None, None, None)


@newest
def test_two_kinds_of_semlock_in_one_process_both_count(python: str) -> None:
    """From 3.12 a second import of _multiprocessing, or another interpreter in the process, has its own type."""
    for holder in ("lock", "other"):
        with target(python, "lock = mp.get_context('spawn').Lock()") as t:
            t.do("p", "del sys.modules['_multiprocessing']")
            t.do("p", "import _multiprocessing as again")
            t.do("p", "other = again.SemLock._rebuild(0, 1, 1, lock._semlock.name)")
            t.do("p", f"{holder}.acquire()")
            with observing(t.root) as observer:
                assert who(state(observer, "held", never="orphaned")) == [by(t, "p")]


# -- names and several objects


@some
def test_two_objects_of_one_semaphore_in_one_process_count_together(python: str) -> None:
    with target(python, "lock = mp.get_context('spawn').Lock()") as t:
        t.do("p", "import _multiprocessing")
        t.do("p", "other = _multiprocessing.SemLock._rebuild(0, 1, 1, lock._semlock.name)")
        for holder in ("lock", "other"):
            t.do("p", f"{holder}.acquire()")
            with observing(t.root) as observer:
                assert who(state(observer, "held", never="orphaned")) == [by(t, "p")]
            t.do("p", f"{holder}.release()")


@some
def test_object_rebuilt_from_a_name_after_the_fork_is_found(python: str) -> None:
    with target(python, "lock = mp.get_context('spawn').Lock()") as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("a", "import _multiprocessing")
            t.do("a", "other = _multiprocessing.SemLock._rebuild(0, 1, 1, lock._semlock.name)")
            t.do("a", "other.acquire()")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "a")]


@some
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_children_share_a_linked_lock(python: str, method: str) -> None:
    with target(python, f"lock = mp.get_context({method!r}).Lock()") as t:
        name = t.do("p", "lock._semlock.name").strip("'")
        t.start(method, "a", "lock")
        t.start(method, "b", "lock")
        with observing(t.root) as observer:
            lock = only(until(observer, lambda s: bool(s.locks) and len(only(s).mapped_by) >= 3))
            assert (lock.linked, lock.shm_name) == (True, name)
            t.do("b", "lock.acquire()")
            assert who(state(observer, "held", never="orphaned")) == [by(t, "b")]
            t.block("a", "lock")
            assert [w.pid for w in state(observer, "contended").waiters] == [t.pids["a"]]
            t.kill("b")
            assert state(observer, "orphaned").linked


@some
def test_the_name_of_an_unlinked_lock_comes_from_glibcs_table(python: str) -> None:
    with target(python, "lock = mp.get_context('fork').Lock()") as t:
        with observing(t.root) as observer:
            lock = only(until(observer, lambda s: bool(s.locks) and only(s).shm_name is not None))
        assert lock.shm_name is not None
        assert lock.shm_name.startswith("/mp-")
        assert not lock.linked


# -- larger primitives

LARGER = {
    "queue": ("mp.Queue()", 3, 1),
    "bounded queue": ("mp.Queue(5)", 3, 1),
    "event": ("mp.Event()", 5, 4),
    "condition": ("mp.Condition()", 4, 3),
    "condition of a lock": ("mp.Condition(mp.Lock())", 4, 3),
    "barrier": ("mp.Barrier(3)", 4, 3),
    "joinable queue": ("mp.JoinableQueue()", 8, 5),
}


@few
@pytest.mark.parametrize("name", LARGER)
def test_the_signals_in_a_larger_primitive_are_grouped_and_hidden(python: str, name: str) -> None:
    made, count, signals = LARGER[name]
    with target(python, f"x = {made}") as t:
        t.fork("a")
        with observing(t.root) as observer:
            snapshot = until(
                observer, lambda s: len(s.locks) == count and sum(lock.signal for lock in s.locks) == signals
            )
            assert len({lock.part_of for lock in snapshot.locks}) == 1
            assert snapshot.locks[0].part_of
            text, everything = "\n".join(report(snapshot)), "\n".join(report(snapshot, signals=True))
            assert f"{signals} signal" in text
            assert len(everything.splitlines()) > len(text.splitlines())
            assert not any(lock.holders for lock in snapshot.locks)


@few
def test_the_lock_inside_a_condition_is_held_like_any_other(python: str) -> None:
    with target(python, "x = mp.Condition()") as t:
        t.fork("a")
        t.do("a", "x.acquire()")
        with observing(t.root) as observer:
            (lock,) = plain(until(observer, lambda s: len(plain(s)) == 1 and plain(s)[0].state == "held"))
            assert lock.kind == "RLock"
            assert who(lock) == [by(t, "a")]


@few
def test_plain_locks_beside_a_queue_stay_plain(python: str) -> None:
    with target(python, "first = mp.Lock(); q = mp.Queue(); last = mp.RLock()") as t, observing(t.root) as observer:
        snapshot = until(observer, lambda s: len(s.locks) == 5 and any(lock.signal for lock in s.locks))
        assert [lock.kind for lock in snapshot.locks if lock.part_of is None] == ["Lock", "RLock"]


# -- what changes while it is watched


@few
def test_locks_made_by_a_worker_after_forking_belong_to_it(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("a", "own = [mp.Lock() for _ in range(3)]")
            t.do("a", "own[1].acquire()")

            def known(s: object) -> bool:
                return [lock.state for lock in s.locks] == ["free", "free", "held", "free"]  # type: ignore[attr-defined]

            snapshot = until(observer, known, never="orphaned")
            assert [[p.pid for p in lock.mapped_by] for lock in snapshot.locks[1:]] == [[t.pids["a"]]] * 3
            assert who(snapshot.locks[2]) == [by(t, "a")]
            t.do("a", "own.clear()")
            until(observer, lambda s: len(s.locks) == 1)


@few
def test_lock_made_and_dropped_repeatedly_is_never_orphaned(python: str) -> None:
    code = "def churn():\\n while True:\\n  one = mp.Lock()\\n  one.acquire()\\n  one.release()\\n  del one"
    with target(python) as t:
        t.do("p", f"exec('{code}', GLOBALS)")
        t.fork("a")
        t.do("p", "lock.acquire()")
        t.send("a", "churn()")
        with observing(t.root) as observer:
            first = until(observer, lambda s: any(lock.state == "held" for lock in s.locks)).locks[0].id
            for snapshot in watch(observer, 1.5, 0.005):
                assert not any(lock.state == "orphaned" for lock in snapshot.locks)
                assert who(next(lock for lock in snapshot.locks if lock.id == first)) == [by(t, "p")]
                for lock in snapshot.locks:
                    assert {h.pid for h in lock.holders} <= {t.root, t.pids["a"]}


@few
def test_processes_that_come_and_go_are_followed(python: str) -> None:
    with target(python) as t, observing(t.root) as observer:
        for round_ in range(8):
            name = f"w{round_}"
            t.fork(name)
            until(observer, lambda s: len(s.processes) == 2)
            t.do(name, "lock.acquire()")
            assert who(state(observer, "held", never="orphaned")) == [by(t, name)]
            t.do(name, "lock.release()")
            t.kill(name)
            until(observer, lambda s: len(s.processes) == 1)
            t.do("p", "os.wait()")
        assert only(observer.snapshot()).state == "free"


@few
def test_a_holder_is_seen_for_longer_and_longer(python: str) -> None:
    with target(python) as t:
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            state(observer, "held")
            first = _since(observer.snapshot())
            until(observer, lambda s: _since(s) > first + 0.2)


def _since(snapshot: Snapshot) -> float:
    return only(snapshot).holders[0].since_s or 0.0


def test_the_last_picture_stays_when_the_server_ends() -> None:
    with target() as t:
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            before = state(observer, "held")
            t.kill("p")
            snapshot = observer.snapshot()
            assert not snapshot.alive
            assert only(snapshot).id == before.id
            assert not observer.snapshot().alive
