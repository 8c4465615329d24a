"""Releasing a lock that a dead process left locked: what is orphaned is released once, anything else is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import PATIENCE_S, alive, start_gunicorn, until_released, wait_until
from support.commands import NOBODY, SOURCE
from support.commands import run as _semtrace
from support.commands import run_as as _semtrace_as
from support.targets import Target, target

from semtrace.commands import release
from semtrace.errors import Refused
from semtrace.linux import post
from semtrace.linux.maps import SemaphoreMaps
from semtrace.model import Lock, SemId
from semtrace.observe.observer import Observer
from semtrace.repairs import repair, report
from semtrace.repairs.repair import Released
from semtrace.servers.discovery import server_of

SPAWN = "lock = mp.get_context('spawn').Lock()"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files, or becomes another user: needs root")
both = pytest.mark.parametrize(
    "made", [pytest.param("lock = mp.Lock()", marks=as_root), SPAWN], ids=["unlinked", "linked"]
)


def _semaphores(pid: int) -> list[SemId]:
    maps = SemaphoreMaps(pid)
    try:
        return [mapped.id for mapped in maps.semaphores()]
    finally:
        maps.close()


def _value(t: Target) -> int:
    return int(t.do("p", "lock._semlock._get_value()"))


def _unlink(t: Target) -> None:
    """The resource tracker, which would do it, is killed with its process."""
    name = t.do("p", "lock._semlock.name").strip("'/")
    with contextlib.suppress(FileNotFoundError):
        Path("/dev/shm", f"sem.{name}").unlink()


@contextlib.contextmanager
def _locks(made: str, *names: str) -> Iterator[Target]:
    """A target whose children are forked, or spawned where the lock keeps its name."""
    with target(made=made) as t:
        try:
            if made == SPAWN:
                for name in names:
                    t.start("spawn", name, "lock")
            else:
                t.fork(*names)
            yield t
        finally:
            if made == SPAWN:
                _unlink(t)


def _orphan(t: Target, waiters: Sequence[str] = ()) -> SemId:
    """a dies with the lock, the others wait."""
    t.do("a", "lock.acquire()")
    for name in waiters:
        t.block(name, "lock")
    t.kill("a")
    (semaphore,) = _semaphores(t.root)
    return semaphore


def _release(root: int, which: object) -> Released:
    with contextlib.closing(Observer(server_of(root))) as observer:
        chosen = wait_until(lambda: _chosen(observer, str(which)), what="the proof")
        return repair.release(observer, chosen, lambda _: None)


def _release_at_once(root: int, which: object) -> Released:
    with contextlib.closing(Observer(server_of(root))) as observer:
        return repair.release(observer, repair.choose(observer, str(which)), lambda _: None)


# -- what it does


@both
def test_release_without_yes_previews_and_changes_nothing(made: str) -> None:
    with _locks(made, "a", "b", "c") as t:
        semaphore = _orphan(t, "bc")
        done = _semtrace("release", t.root, semaphore)
        assert done.returncode == 0, done
        assert "is orphaned" in done.stdout
        assert "none of the 3 processes that map it" in done.stdout
        assert f"PID {t.pids['b']} has waited for at least" in done.stdout
        assert f"semtrace release {t.root} " in done.stdout.splitlines()[-1]
        assert "--yes" in done.stdout.splitlines()[-1]
        assert done.stderr == ""
        assert _value(t) == 0


@both
def test_release_admits_one_waiter_who_admits_the_next(made: str) -> None:
    with _locks(made, "a", "b", "c", "d") as t:
        semaphore = _orphan(t, "bcd")
        done = until_released(lambda: _semtrace("release", t.root, semaphore, "--yes"))
        assert "value 0 -> 1" in done.stdout
        assert "continued" in done.stdout
        assert "value 0, 2 still wait" in done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("semtrace: released ")
        assert str(semaphore) in line
        assert _value(t) == 0
        first = _whoever_got_in(t, "bcd")
        assert _claims(t, semaphore) == {t.pids[first]: 1}
        for name in [first, *sorted(set("bcd") - {first})]:
            if name != first:
                t.done(name)
            t.do(name, "lock.release()")
        assert _value(t) == 1


def _claims(t: Target, semaphore: SemId) -> dict[int, int]:
    """Who has it, once that is known: the search for its objects may take several looks."""
    observer = Observer(server_of(t.root))

    def claims() -> dict[int, int]:
        lock = next(lock for lock in observer.snapshot().locks if lock.id == semaphore)
        return {holder.pid: holder.count for holder in lock.holders}

    try:
        return wait_until(claims, what="a holder")
    finally:
        observer.close()


def _whoever_got_in(t: Target, names: str) -> str:
    """The one whose acquire has returned."""

    def found() -> str:
        return next((name for name in names if not t.syscall(name).startswith("202 ")), "")

    name = wait_until(found)
    t.done(name)
    return name


@both
def test_release_without_waiters_leaves_the_lock_free(made: str) -> None:
    with _locks(made, "a", "b") as t:
        released = _release(t.root, _orphan(t))
        assert (released.before, released.woken) == (post.Word(0, 0), 0)
        assert released.after == post.Word(1, 0)
        assert released.now is not None
        assert released.now.state == "free"
        assert t.do("b", "[lock.acquire(False), lock.acquire(False)]") == "[True, False]"


@as_root
def test_waiter_that_acquires_and_dies_at_once_is_reported() -> None:
    with _locks("lock = mp.Lock()", "a", "b", "c") as t:
        t.do("a", "lock.acquire()")
        t.send("b", "lock.acquire() and __import__('os')._exit(1)")
        t.wait_futex("b")
        t.block("c", "lock")
        t.kill("a")
        released = _release(t.root, _semaphores(t.root)[0])
        said = "\n".join(report.outcome(released))
        assert f"PID {t.pids['b']} acquired it and died at once: the lock is orphaned again" in said
        assert "was seen to continue" not in said


@as_root
def test_it_is_released_at_a_moment_when_nobody_ran() -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        assert _release(t.root, _orphan(t, "b")).still


@as_root
def test_computing_worker_does_not_prevent_the_release() -> None:
    with _locks("lock = mp.Lock()", "a", "b", "c") as t:
        t.start_doing("c", "compute()", "computing")
        released = _release(t.root, _orphan(t, "b"))
        assert not released.still
        assert [waiter.pid for waiter in released.got_on] == [t.pids["b"]]


@as_root
def test_released_rlock_and_bounded_semaphore_have_all_units_free() -> None:
    for made, taken, free in (("lock = mp.RLock()", 3, 1), ("lock = mp.BoundedSemaphore(2)", 2, 2)):
        with target(made=made) as t:
            t.fork("a", "b")
            t.do("a", f"[lock.acquire() for _ in range({taken})]")
            t.kill("a")
            assert _release(t.root, _semaphores(t.root)[0]).after.value == free
            assert t.do("b", f"[lock.acquire(False) for _ in range({free})]") == str([True] * free)


@as_root
def test_a_lock_may_be_named_as_in_the_source() -> None:
    with _locks("lock = mp.Lock()", "a") as t:
        _orphan(t)
        until_released(lambda: _semtrace("release", t.root, "__main__.lock", "--yes"))
        assert _value(t) == 1


@as_root
def test_a_second_release_is_refused() -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t)
        until_released(lambda: _semtrace("release", t.root, semaphore, "--yes"))
        done = _semtrace("release", t.root, semaphore, "--yes")
        assert done.returncode == 1, done
        assert "it is free" in done.stderr
        assert _value(t) == 1


@as_root
def test_of_many_releases_at_once_one_acts() -> None:
    with _locks("lock = mp.Lock()", "a", "b", "c", "d") as t:
        semaphore = _orphan(t, "bcd")
        results: list[object] = []

        def attempt() -> None:
            try:
                results.append(_release_at_once(t.root, semaphore))
            except Refused as error:
                results.append(error)

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(result, Released) for result in results) == 1, results
        _whoever_got_in(t, "bcd")
        assert _value(t) == 0
        assert len(_claims(t, semaphore)) == 1


@as_root
def test_the_hanging_requests_of_a_real_gunicorn_complete() -> None:
    with start_gunicorn("orphaning:app", "--workers", "3", "--preload", "--timeout", "60") as running:
        running.wait_workers(3)
        holder = int(running.get("/hold").rsplit(b"\n", 1)[-1])
        os.kill(holder, 9)
        wait_until(lambda: not alive(holder))
        running.wait_workers(3)
        answers: list[bytes] = []
        clients = [threading.Thread(target=lambda: answers.append(running.get("/use"))) for _ in range(3)]
        for client in clients:
            client.start()

        def waiting() -> bool:
            (lock,) = json.loads(_semtrace("dump", running.pid, "--json").stdout)["locks"]
            return len(lock["waiters"]) == 3

        wait_until(waiting)
        done = until_released(lambda: _semtrace("release", running.pid, "orphaning.lock", "--yes"))
        assert "continued" in done.stdout
        for client in clients:
            client.join(PATIENCE_S)
        assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 3


# -- what it refuses


def _assert_refused(t: Target, which: object, code: int, *parts: str, dry: bool = True) -> None:
    before = _value(t)
    for yes in ((), ("--yes",)) if dry else (("--yes",),):
        done = _semtrace("release", t.root, which, *yes)
        assert done.returncode == code, done
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        for part in parts:
            assert part in done.stderr, done
    assert _value(t) == before


def test_what_is_free_held_or_contended_is_refused() -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        _assert_refused(t, "__main__.lock", 1, "not proved orphaned: it is free")
        t.do("a", "lock.acquire()")
        _assert_refused(t, "__main__.lock", 1, f"it is held, held by {t.pids['a']}")
        t.block("b", "lock")
        _assert_refused(t, "__main__.lock", 1, f"it is contended, held by {t.pids['a']}")


def test_an_unknown_name_lists_what_there_is() -> None:
    with _locks("lock = mp.Lock()") as t:
        (semaphore,) = _semaphores(t.root)
        _assert_refused(t, "myapp.lck", 2, "there is no lock myapp.lck", f"__main__.lock [{semaphore}] (free)")


def test_a_name_of_several_locks_lists_their_ids() -> None:
    with target(made="None") as t:
        t.fork("a", "b")
        for name in "ab":
            t.do(name, "exec('lock = mp.Lock()', GLOBALS)")
        ids = [str(_semaphores(t.pids[name])[0]) for name in "ab"]
        done = _semtrace("release", t.root, "__main__.lock")
        assert done.returncode == 2, done
        for each, name in zip(ids, "ab", strict=True):
            assert f"{each}  free, mapped by PID {t.pids[name]}" in done.stderr
        assert f"semtrace release {t.root} {min(_semaphores(t.pids[name])[0] for name in 'ab')}" in done.stderr


def test_a_suspect_that_waits_for_the_interpreter_lock_is_refused() -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        t.thread("b2", by="b")
        t.do("b", "sys.setswitchinterval(100)")
        t.do("a", "lock.acquire()")
        t.block("b2", "lock")
        end = t.hog("b")
        t.do("a", "lock.release()")
        wait_until(lambda: _value(t) == 0, what="b2 to be granted it")
        _assert_refused(t, "__main__.lock", 1, "not proved orphaned", dry=False)
        end()
        t.done("b2")


def test_a_lock_that_was_handed_over_is_refused() -> None:
    with _locks("lock = mp.Lock()", "a", "b", "c") as t:
        t.do("a", "lock.acquire()")
        t.do("b", "lock.release()")
        t.do("c", "lock.acquire()")
        t.kill("c")
        _assert_refused(t, "__main__.lock", 1, "not proved orphaned: it is unknown")


def test_a_signal_inside_a_condition_is_refused() -> None:
    with target(made="lock = mp.Condition()") as t:
        done = _semtrace("release", t.root, "__main__.lock._sleeping_count", "--yes")
        assert done.returncode == 1, done
        assert "nobody holds it" in done.stderr


def test_a_threading_lock_is_said_to_be_one() -> None:
    with target(made="import threading; lock, guard = mp.Lock(), threading.Lock()") as t:
        name = t.do("p", "__name__").strip("'")
        done = _semtrace("release", t.root, f"{name}.guard", "--yes")
        assert done.returncode == 1, done
        assert f"{name}.guard is a threading.Lock: each process has one of its own" in done.stderr
        assert "there is no lock" not in done.stderr


def test_a_server_that_is_none_is_said_to_be_none() -> None:
    assert _semtrace("release", 2**22 - 1, "x").returncode == 5


@as_root
def test_another_users_lock_gives_the_command_that_could() -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        done = _semtrace_as(NOBODY, "release", t.root, semaphore, "--yes")
        assert done.returncode == 4, done
        assert f" release {t.root} {semaphore} --yes" in done.stderr
        assert "sudo " in done.stderr
        assert _value(t) == 0


@as_root
def test_release_without_rights_to_a_process_prints_the_privileged_command() -> None:
    """A relative outside the server may map it, for all that can be seen."""
    with _locks("lock = mp.Lock()") as t:
        t.do("p", f"become({NOBODY})")
        t.fork("a", "b")
        t.fork_away("h")
        t.do("h", "dumpable(0)")
        semaphore = _orphan(t, "b")
        done = _semtrace_as(NOBODY, "release", t.root, semaphore)
        assert done.returncode == 4, done
        assert "cannot be read: look as root" in done.stderr
        assert f" release {t.root} {semaphore}\n" in done.stderr, "no more than was asked for"
        told = _semtrace_as(NOBODY, "doctor", t.root).stdout
        assert "no process that can be seen holds it" in " ".join(told.split()), told
        assert "look as root" in " ".join(told.split())


@as_root
def test_unopenable_unlinked_lock_prints_the_privileged_command() -> None:
    script = f"""
import ctypes, os, sys
sys.path.insert(0, {SOURCE!r})
from semtrace.repairs import repair
from semtrace.errors import NotPermitted
from semtrace.linux import post, rights
from semtrace.model import *
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
semaphore, process = SemId(*map(int, sys.argv[1].split(":"))), ProcessId(int(sys.argv[2]), 0)
lock = Lock(semaphore, "Lock", "orphaned", 0, 1, mapped_by=(process,))
rights.started_with(["release", "--audit", "a b", sys.argv[2], sys.argv[1]])
class Observer: server = Server("python", lock.mapped_by[0], "", 0.0, "")
try:
    repair.check_rights(Observer, lock)
except NotPermitted as error:
    print(error.exit_code, error.remedy)
"""
    with _locks("lock = mp.Lock()") as t:
        (semaphore,) = _semaphores(t.root)
        t.do("p", f"become({NOBODY})")
        done = subprocess.run(
            [sys.executable, "-c", script, str(semaphore), str(t.root)], capture_output=True, text=True
        )
        assert done.stdout.startswith("4 its file has no name any more, so only root can open it: sudo "), done
        assert done.stdout.endswith(f" release --audit 'a b' {t.root} {semaphore}\n"), done


@as_root
@pytest.mark.parametrize("more", [(), ("--yes",), ("--audit", "a b"), ("--yes", "--audit=x")])
def test_privileged_command_repeats_exactly_what_was_typed(more: tuple[str, ...], tmp_path: Path) -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        done = _semtrace_as(NOBODY, "release", *more, t.root, semaphore)
        assert done.returncode == 4, done
        assert f" {shlex.join(['release', *more, str(t.root), str(semaphore)])}\n" in done.stderr


# -- what comes between the proof and the act


@contextlib.contextmanager
def _proved() -> Iterator[tuple[Target, Observer, Lock]]:
    """An orphan of four processes, proved to be one; b waits for it."""
    with _locks("lock = mp.Lock()", "a", "b", "c", "d") as t:
        semaphore = _orphan(t, "b")
        observer = Observer(server_of(t.root))
        try:
            yield t, observer, wait_until(lambda: _chosen(observer, str(semaphore)), what="the proof")
        finally:
            observer.close()


def _chosen(observer: Observer, which: str) -> Lock | None:
    """Return None where the proof does not come about: other tests may start processes faster than they are asked."""
    with contextlib.suppress(Refused):
        return repair.choose(observer, which)
    return None


def _refuses(observer: Observer, lock: Lock, why: str) -> None:
    said: list[Released] = []
    with pytest.raises(Refused, match=why):
        repair.release(observer, lock, said.append)
    assert not said


@as_root
def test_concurrent_release_by_another_process_is_respected() -> None:
    with _proved() as (t, observer, lock):
        with post.open_semaphore(lock.id, None, [t.root]) as other:
            assert other.reserve()
            _refuses(observer, lock, "somebody else is releasing")
        assert _value(t) == 0
        assert repair.release(observer, lock, lambda _: None).got_on


@as_root
def test_release_and_acquire_after_the_proof_are_noticed() -> None:
    with _proved() as (t, observer, lock):
        t.do("c", "lock.release()")
        t.done("b")
        _refuses(observer, lock, "not proved orphaned")
        assert _value(t) == 0


@as_root
def test_release_and_acquire_after_the_last_count_sample_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They ran in the moment, so it was not still; the look after that sees what they did."""
    with _proved() as (t, observer, lock):
        check, moved = repair.Stillness.broken_by, []

        def meanwhile(self: repair.Stillness) -> int | None:
            if not moved:
                moved.append(t.do("c", "lock.release()"))
                t.done("b")
            return check(self)

        monkeypatch.setattr(repair.Stillness, "broken_by", meanwhile)
        _refuses(observer, lock, "not proved orphaned")
        assert moved
        assert _value(t) == 0


@as_root
def test_unit_returned_at_the_last_instant_is_not_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    with _proved() as (t, observer, lock):
        t.kill("b")
        read, values = post.OpenSemaphore.read, []

        def meanwhile(self: post.OpenSemaphore) -> post.Word:
            word = read(self)
            if not values:
                t.do("c", "lock.release()")
            values.append(word.value)
            return word

        monkeypatch.setattr(post.OpenSemaphore, "read", meanwhile)
        repair.release(observer, lock, lambda _: None)
        assert values[0] == 0
        assert _value(t) == 1
        assert t.do("d", "[lock.acquire(False), lock.acquire(False)]") == "[True, False]"


# -- what is written down


@as_root
def test_the_audit_file_gets_a_line_for_each_act(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.write_text("before\n")
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        _semtrace("release", t.root, semaphore, "--audit", audit)
        assert audit.read_text() == "before\n"
        until_released(lambda: _semtrace("release", t.root, semaphore, "--yes", "--audit", audit))
    intent, line = [json.loads(line) for line in audit.read_text().splitlines()[1:]]
    assert (intent["stage"], line["stage"], intent["lock"]) == ("about to", "done", line["lock"])
    assert (line["act"], line["pid"], line["lock"], line["name"]) == (
        "release",
        t.root,
        str(semaphore),
        "__main__.lock",
    )
    assert line["user"] == "root"
    assert line["time"].endswith("Z")
    assert line["before"] == {"value": 0, "waiters": 1}
    assert line["after"]["woken"] == 1
    assert any("none of the 2 processes" in each for each in line["evidence"])
    assert any(f"PID {t.pids['b']}" in each and "waits" in each for each in line["evidence"])


@as_root
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_nothing_is_done_if_the_audit_file_takes_nothing(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        command = ["prlimit", "--fsize=0", *_release_argv(t.root, semaphore, audit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert f"cannot write to the audit file {audit}: File too large" in done.stderr
        assert "nothing was done" in done.stderr
        assert _value(t) == 0


@as_root
def test_what_is_not_done_after_all_is_written_down_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = tmp_path / "audit"

    def refuse(*_: object) -> Released:
        raise Refused("it has just changed")

    monkeypatch.setattr(repair, "release", refuse)
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        with pytest.raises(Refused):
            list(release.release(server_of(t.root), str(semaphore), yes=True, audit=str(audit), say=print))
    assert [json.loads(line)["stage"] for line in audit.read_text().splitlines()] == ["about to", "not done"]


@as_root
def test_nothing_is_done_if_the_audit_file_cannot_be_opened(tmp_path: Path) -> None:
    with _locks("lock = mp.Lock()", "a", "b") as t:
        semaphore = _orphan(t, "b")
        done = _semtrace("release", t.root, semaphore, "--yes", "--audit", tmp_path / "no" / "such")
        assert done.returncode == 1, done
        assert "nothing was done" in done.stderr
        assert _value(t) == 0


def _release_argv(root: int, semaphore: SemId, audit: Path) -> list[str]:
    return [sys.executable, "-m", "semtrace", *f"release {root} {semaphore} --yes --audit {audit}".split()]


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_release_reports_the_outcome_of_its_intent(
    made: str, number: signal.Signals, tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    with _locks(made, "a", "b") as t:
        semaphore = _orphan(t, "b")
        argv = _release_argv(t.root, semaphore, audit)
        with subprocess.Popen(
            argv, env={**os.environ, "PYTHONPATH": SOURCE}, stderr=subprocess.PIPE, text=True
        ) as popen:
            wait_until(lambda: audit.exists() and audit.read_text(), what="the intent")
            popen.send_signal(number)
            _, said = popen.communicate(timeout=PATIENCE_S)
        intent, *then = [json.loads(line) for line in audit.read_text().splitlines()]
        assert intent["stage"] == "about to"
        assert popen.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        (last,) = then
        if last["stage"] == "done":  # it was too late
            assert said.startswith("semtrace: released ")
            return
        assert (last["stage"], last["why"]) == ("not done", "interrupted")
        assert said.startswith("semtrace: interrupted when about to release ")
        assert _value(t) == 0


@both
def test_audit_file_has_everything_although_stderr_is_full(made: str, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    with _locks(made, "a", "b") as t:
        semaphore = _orphan(t, "b")
        argv = _release_argv(t.root, semaphore, audit)
        with open("/dev/full", "w") as full:
            done = subprocess.run(argv, env={**os.environ, "PYTHONPATH": SOURCE}, stderr=full, timeout=PATIENCE_S)
        assert done.returncode == 0
        assert [json.loads(line)["stage"] for line in audit.read_text().splitlines()] == ["about to", "done"]
