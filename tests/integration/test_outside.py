"""Processes outside the server that hold its lock in unusual ways, and those that do not, however they look."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import PATIENCE_S, alive, child_pids, start, until_released, wait_until
from support.commands import NOBODY, SOURCE
from support.commands import run_as as _semtrace_as
from support.targets import UNLINKED, Target, observing, only, state, target, until, watch

from semtrace.errors import NotPermitted, Refused
from semtrace.linux.maps import mappings_of
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.program import namespace_pids
from semtrace.model import Lock, SemId
from semtrace.observe.observer import Observer
from semtrace.repairs import repair
from semtrace.repairs.repair import Released
from semtrace.servers.discovery import server_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files, or becomes another user: root")

namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "-p", "--fork", "true"], capture_output=True).returncode != 0,
    reason="unshare is not possible here",
)
SPAWN = "lock = mp.get_context('spawn').Lock()"
LONG_ENOUGH_S = 3.0

# Each has the process map its lock in another way, by `fd`, the lock's file, and `at`, where the lock was mapped.
_BEGIN = (
    "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); libc.mmap.restype = ctypes.c_void_p; "
    "at = lock._semlock.handle; fd = os.open(f'/proc/self/map_files/{at:x}-{at + 4096:x}', os.O_RDWR); "
    "mmap = lambda where, size, prot, flags: libc.mmap(ctypes.c_void_p(where), size, prot, flags, fd, 0); "
    "munmap = lambda: libc.munmap(ctypes.c_void_p(at), 4096); "
)
_CLOSE = "; os.close(fd)"
WAYS = {
    "read-only": "libc.mprotect(ctypes.c_void_p(at), 4096, 1)" + _CLOSE,
    "not accessible": "libc.mprotect(ctypes.c_void_p(at), 4096, 0)" + _CLOSE,
    "privately": "mmap(at, 4096, 3, 0x12)" + _CLOSE,
    "two pages": "mmap(0, 8192, 3, 1); munmap()" + _CLOSE,
    "open only": "munmap()",
}
unusual = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def _semaphore(t: Target) -> SemId:
    with observing(t.root) as observer:
        return only(until(observer, lambda s: bool(s.locks))).id


def _value(t: Target) -> int:
    return int(t.do("p", "lock._semlock._get_value()"))


@contextlib.contextmanager
def _held_outside(way: str = "None", made: str = "lock = mp.Lock()") -> Iterator[Target]:
    """A server whose lock a process outside its tree holds, which has then done this with its mapping."""
    with target(made=made) as t:
        t.fork("a")
        t.fork_away("h")
        t.do("h", "lock.acquire()")
        t.do("h", _BEGIN + way)
        yield t


def _never_orphaned(t: Target, seconds: float = LONG_ENOUGH_S) -> Lock:
    """The lock as it was seen last."""
    with observing(t.root) as observer:
        locks = [only(snapshot) for snapshot in watch(observer, seconds)]
    assert not [lock for lock in locks if lock.state == "orphaned"]
    return locks[-1]


# -- every mapping and descriptor counts


@unusual
def test_a_holder_outside_is_seen_however_it_maps(way: str) -> None:
    with _held_outside(way) as t:
        lock = _never_orphaned(t)
        assert lock.state == "unknown"
        assert f"PID {t.pids['h']}" in (lock.reason or "")
        assert not lock.proof_needs_rights


def test_holder_outside_may_end_while_a_snapshot_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with _held_outside() as t, observing(t.root) as observer:
        h = t.pids["h"]
        wait_until(lambda: [holder.pid for holder in only(observer.snapshot()).holders] == [h])
        prove = observer._prover.prove

        def ended(*judged: object) -> None:
            """All is judged, and a member that was just born has everybody listed again."""
            prove(*judged)  # type: ignore[arg-type]
            t.kill("h")
            observer._fleet.follow(observer._tree.refresh(), time.monotonic())

        monkeypatch.setattr(observer._prover, "prove", ended)
        assert [holder.pid for holder in only(observer.snapshot()).holders] == [h]
        monkeypatch.undo()
        assert not only(observer.snapshot()).holders


def test_a_holder_outside_is_seen_under_another_name() -> None:
    with target(made=SPAWN) as t:
        t.start("spawn", "a", "lock")
        t.fork_away("h")
        t.do("h", "lock.acquire()")
        name = t.do("p", "lock._semlock.name").strip("'/")
        path, other = Path("/dev/shm", f"sem.{name}"), Path("/dev/shm", f"semtrace-test-{os.getpid()}")
        os.link(path, other)
        try:
            t.do("h", _BEGIN + f"os.close(fd); fd = os.open({str(other)!r}, os.O_RDWR); munmap(); mmap(at, 4096, 3, 1)")
            t.do("h", "os.close(fd)")
            assert f"PID {t.pids['h']}" in (_never_orphaned(t).reason or "")
        finally:
            other.unlink()
            path.unlink(missing_ok=True)


@unusual
def test_release_refuses_what_is_mapped_unusually(way: str) -> None:
    with _held_outside(way) as t, contextlib.closing(Observer(server_of(t.root))) as observer:
        with pytest.raises(Refused, match=rf"not proved orphaned.*PID {t.pids['h']}\b"):
            repair.choose(observer, str(_semaphore(t)))
        assert _value(t) == 0


@pytest.mark.parametrize("way", ["mmap(0, 4096, 3, 1); os.close(fd)", WAYS["read-only"], "None"])
def test_a_member_that_maps_it_unusually_is_named(way: str) -> None:
    """Twice, read-only, or with its file open: whoever uses it there has no SemLock that could be found."""
    with target() as t:
        t.fork("a", "b", "c")
        t.do("a", "lock.acquire()")
        t.do("b", _BEGIN + way)
        t.kill("a")
        lock = _never_orphaned(t)
        assert lock.state == "unknown"
        assert f"PID {t.pids['b']}" in (lock.reason or "")


def test_mappings_of_other_files_hinder_no_proof() -> None:
    with target() as t:
        t.fork("a", "b")
        t.fork_away("h")
        t.do("h", "other = mp.Lock()")
        t.do("h", _BEGIN.replace("at = lock.", "at = other.") + "mmap(0, 8192, 1, 1); os.close(fd)")
        t.do("h", "libc.munmap(ctypes.c_void_p(lock._semlock.handle), 4096)")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


def test_every_mapping_of_a_file_is_found() -> None:
    with target() as t:
        semaphore = _semaphore(t)
        t.do("p", _BEGIN + "mmap(0, 4096, 1, 1); mmap(0, 12288, 3, 2)")
        found = [mapping for each, mapping in mappings_of(t.root, {semaphore}) if each == semaphore]
        assert sorted((m.perms, m.end - m.start) for m in found) == [
            ("r--s", PAGE_SIZE), ("rw-p", 3 * PAGE_SIZE), ("rw-s", PAGE_SIZE)
        ]  # fmt: skip
        assert list(mappings_of(t.root, {semaphore._replace(inode=semaphore.inode + (1 << 40))})) == []


# -- processes that come faster than they can be asked

REFORK = """
def refork(until_s, end):
    import time
    while time.monotonic() < until_s and not os.path.exists(end):
        if os.fork():
            os._exit(0)
        time.sleep(0.004)  # far less than a sweep takes; without it all numbers of processes are soon used up
    os._exit(0)
"""


def test_a_holder_that_keeps_forking_away_is_not_missed(tmp_path: Path) -> None:
    with target() as t:
        t.fork("a")
        t.fork_away("h")
        t.do("h", "lock.acquire()")
        t.do("h", f"exec({REFORK!r}, GLOBALS)")
        t.send("h", f"refork({time.monotonic() + PATIENCE_S}, {str(tmp_path / 'end')!r})")
        wait_until(lambda: not alive(t.pids["h"]), what="it to begin")
        lock = _never_orphaned(t)
        (tmp_path / "end").touch()
        assert lock.state == "unknown"
        assert lock.reason is not None
        assert "start faster than they can be asked" in lock.reason or "maps it too" in lock.reason


def test_processes_that_come_and_go_hinder_no_proof() -> None:
    with start("sh", "-c", "while :; do sleep 0.05; done"), target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


# -- who cannot be asked


def _undumpable_relative(t: Target) -> None:
    """h holds the lock, cannot be read by its user, and is called as thousands are."""
    t.do("p", f"become({NOBODY})")
    t.fork("a", "b")
    t.fork_away("h")
    t.do("h", "lock.acquire()")
    t.do("h", "[dumpable(0), ctypes.CDLL(None).prctl(15, b'sshd', 0, 0, 0)]")


def _seen_by_nobody(t: Target, *wrapper: str) -> dict[str, object]:
    done = _semtrace_as(NOBODY, "dump", t.root, "--json")
    assert done.returncode == 0, done
    (lock,) = json.loads(done.stdout)["locks"]
    return dict(lock)


def test_an_unreadable_holder_is_not_dismissed_by_its_name() -> None:
    with target() as t:
        _undumpable_relative(t)
        lock = _seen_by_nobody(t)
        assert lock["state"] == "unknown"
        # It is this one, or a process of another test that nobody may read either.
        assert re.search(r"PID \d+ may map it and cannot be read: look as root", str(lock["reason"]))
        done = _semtrace_as(NOBODY, "release", t.root, _semaphore(t), "--yes")
        assert done.returncode == 4, done
        assert re.search(r"PID \d+ may map it", done.stderr)
        assert "sudo " in done.stderr
        told = _semtrace_as(NOBODY, "doctor", t.root).stdout
        assert "no process that can be seen holds it" in " ".join(told.split()), told


FORKED = "import os, time; os.fork(); print('READY', flush=True); time.sleep(600)"
ALONE = "print('READY', flush=True); import time; time.sleep(600)"
ASK = f"""
from semtrace.linux.sweep import *
from semtrace.model import SemId
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
shared = Shared(frozenset(map(int, sys.argv[3].split())), named=sys.argv[4] == "named")
(found,) = sweep({{SemId(*map(int, sys.argv[2].split(':'))): shared}}).values()
print(*found.hidden)
"""


def _hidden_from_nobody(t: Target, semaphore: SemId, members: Sequence[str], named: str = "") -> set[int]:
    """Who may have this semaphore, for all that another user can see."""
    script = f"import os, sys; sys.path.insert(0, sys.argv[1]){ASK}"
    pids = " ".join(str(t.pids[name]) for name in members)
    argv = [sys.executable, "-c", script, SOURCE, str(semaphore), pids, named]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return set(map(int, done.stdout.split()))


def test_who_cannot_have_inherited_it_is_excluded_and_nobody_else() -> None:
    """Other users' processes: forked from one older than the server, or running a program of their own."""
    older, another = (sys.executable, "-c", FORKED), (sys.executable, "-c", ALONE)
    with contextlib.ExitStack() as stack:
        first, old = stack.enter_context(start(*older))
        wait_until(lambda: old.read_text().count("READY") == 2, what="the older")
        t = stack.enter_context(target())
        third, new = stack.enter_context(start(*another))
        wait_until(lambda: "READY" in new.read_text(), what="the younger")
        semaphore = _semaphore(t)
        t.do("p", f"become({NOBODY})")
        t.fork("a")
        t.fork_away("h")
        t.do("h", "dumpable(0)")
        strangers = {first.pid, *child_pids(first.pid), third.pid}
        hidden = _hidden_from_nobody(t, semaphore, "pa")
        assert not hidden & strangers
        assert t.pids["h"] in hidden
        assert _hidden_from_nobody(t, semaphore, "pa", "named") >= strangers


def test_one_forked_after_the_root_is_not_excluded() -> None:
    """Whether it was forked from the server, by way of one who has ended, cannot be seen."""
    with target() as t, start(sys.executable, "-c", FORKED) as (other, log):
        wait_until(lambda: log.read_text().count("READY") == 2, what="both")
        semaphore = _semaphore(t)
        t.do("p", f"become({NOBODY})")
        hidden = _hidden_from_nobody(t, semaphore, "p")
        assert hidden >= set(child_pids(other.pid))
        assert other.pid not in hidden


def test_unreadable_processes_may_map_a_named_lock() -> None:
    with start(sys.executable, "-c", ALONE) as (_, log), target(made=SPAWN) as t:
        wait_until(lambda: "READY" in log.read_text(), what="the other")
        t.do("p", f"become({NOBODY})")
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        lock = _seen_by_nobody(t)
        assert lock["state"] == "unknown"
        assert "may map it and cannot be read" in str(lock["reason"])


@namespaces
@pytest.mark.parametrize("option", ["0", "1", "2"])
def test_processes_that_proc_hides_may_map_it(option: str) -> None:
    """With hidepid=2 they are not even listed."""
    with target() as t:
        semaphore = _semaphore(t)
        t.do("p", f"become({NOBODY})")
        script = f"import os, sys; sys.path.insert(0, sys.argv[1]){ASK}".replace("*found.hidden", "*found.obstacles")
        mount = f'mount -t proc -o hidepid={option} proc /proc && exec "$@"'
        argv = ["unshare", "-m", "sh", "-c", mount, "-", sys.executable, "-c", script, SOURCE, str(semaphore)]
        done = subprocess.run([*argv, str(t.root), ""], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        assert ("hides the processes of other users" in done.stdout) is (option == "2")
        assert (f"PID {os.getpid()} may map it" in done.stdout) is (option == "1")


# -- from inside a container, the processes outside it cannot be seen

# It tells the pid of the container's first process, holds its lock, and sends a child in, which then belongs to that.
ENTERS = """
import ctypes, multiprocessing, os, signal, subprocess, sys, time
lock = multiprocessing.Lock()
argv = ["unshare", "-p", "-m", "-f", "--mount-proc", "--kill-child", "sh", "-c", "echo; exec sleep 300"]
container = subprocess.Popen(argv, stdout=subprocess.PIPE)
container.stdout.readline()
(first,) = map(int, open(f"/proc/{container.pid}/task/{container.pid}/children").read().split())
if os.fork() == 0:
    fd = os.open(f"/proc/{first}/ns/pid", os.O_RDONLY)
    assert ctypes.CDLL(None).setns(fd, 0) == 0
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(1, b"%d %d\\n" % (first, os.getpid()))
            time.sleep(300)
    os._exit(0)
os.wait()
lock.acquire()
os.write(1, b"held\\n")
sys.stdin.read()
container.kill()
"""


def _from_inside(first: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """semtrace, run in the container of this process."""
    argv = ["nsenter", "-t", str(first), "-p", "-m", sys.executable, "-m", "semtrace", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE_S)


@namespaces
def test_a_holder_whose_child_entered_the_container_is_not_excluded() -> None:
    argv = [sys.executable, "-c", ENTERS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        lines = {holder.stdout.readline().strip(), holder.stdout.readline().strip()}
        first, entered = map(int, (lines - {"held"}).pop().split())
        try:
            wait_until(lambda: _parent_inside(first, entered) == 1, what="the container's init to adopt it")
            done = _from_inside(first, "dump", entered, "--json")
            (lock,) = json.loads(done.stdout)["locks"]
            assert lock["state"] == "unknown", lock
            assert "processes outside this container may map it" in lock["reason"]
            released = _from_inside(first, "release", entered, lock["id"], "--yes")
            assert released.returncode == 1, released
            assert "run semtrace on the host" in released.stderr
        finally:
            os.kill(first, signal.SIGKILL)
            holder.communicate("")


def _parent_inside(first: int, pid: int) -> int:
    argv = ["nsenter", "-t", str(first), "-p", "-m", "cat", f"/proc/{pid}/stat"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return int(text[text.rindex(")") + 2 :].split()[1])


@namespaces
@pytest.mark.parametrize("run", ['exec "$@"', '"$@"; true'], ids=["first process", "below a shell"])
def test_an_ordinary_container_proves_and_releases_its_orphan_itself(run: str) -> None:
    script = f"mount -t tmpfs none /dev/shm && mount -t proc proc /proc && {run}"
    wrapper = ("unshare", "-m", "-p", "--fork", "sh", "-c", script, "-")
    with target(made=UNLINKED, wrapper=wrapper) as t:  # processes outside could open one that has a name
        t.fork("a", "b", "c")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        t.kill("a")
        root = namespace_pids(t.root)[-1]
        done = until_released(lambda: _from_inside(t.root, "release", root, "__main__.lock", "--yes"))
        assert "value 0 -> 1" in done.stdout


# -- what comes between the proof and the act


class Outsider:
    """A process of another program that does with the lock's file what it is told."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen

    def do(self, line: str) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()
        assert self._popen.stdout.readline() == "done\n"


@contextlib.contextmanager
def _outsider(t: Target) -> Iterator[Outsider]:
    (at,) = {m.start for _, m in mappings_of(t.root, {_semaphore(t)})}
    path = f"/proc/{t.root}/map_files/{at:x}-{at + PAGE_SIZE:x}"
    program = (
        f"import mmap, os, sys\npath = {path!r}\nfor line in sys.stdin:\n    exec(line); print('done', flush=True)"
    )
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        try:
            yield Outsider(popen)
        finally:
            popen.kill()


@contextlib.contextmanager
def _proved() -> Iterator[tuple[Target, Observer, Lock]]:
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with contextlib.closing(Observer(server_of(t.root))) as observer:
            yield t, observer, repair.choose(observer, str(_semaphore(t)))


@pytest.mark.parametrize("more", ["", "; mapping = mmap.mmap(fd, 32); os.close(fd)", "; mapping = mmap.mmap(fd, 32)"])
def test_who_comes_after_the_proof_is_seen_before_the_act(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    with _proved() as (t, observer, lock), _outsider(t) as outsider:
        check, come = repair.Stillness.broken_by, []

        def meanwhile(self: repair.Stillness) -> int | None:
            if not come:
                outsider.do("fd = os.open(path, os.O_RDWR)" + more)
                come.append(True)
            return check(self)

        monkeypatch.setattr(repair.Stillness, "broken_by", meanwhile)
        said: list[Released] = []
        with pytest.raises(Refused, match=r"not proved orphaned: (PID|it is unknown: holder unknown: PID)"):
            repair.release(observer, lock, said.append)
        assert come
        assert not said
        assert _value(t) == 0


def test_process_opening_the_file_briefly_does_not_prevent_release(monkeypatch: pytest.MonkeyPatch) -> None:
    with _proved() as (t, observer, lock), _outsider(t) as outsider:
        check, looks = repair.Stillness.broken_by, iter(["fd = os.open(path, os.O_RDWR)", "pass", "os.close(fd)"])

        def meanwhile(self: repair.Stillness) -> int | None:
            outsider.do(next(looks, "pass"))
            return check(self)

        monkeypatch.setattr(repair.Stillness, "broken_by", meanwhile)
        released = repair.release(observer, lock, lambda _: None)
        assert (released.after.value, released.still) == (1, True)


def test_release_names_who_cannot_be_asked_at_the_act(monkeypatch: pytest.MonkeyPatch) -> None:
    from semtrace.linux.sweep import Obstacle

    with _proved() as (t, observer, lock):
        monkeypatch.setattr(observer, "obstacle", lambda _: Obstacle("hidden", t.root))
        with pytest.raises(NotPermitted, match=f"PID {t.root} may map it and cannot be read"):
            repair.release(observer, lock, lambda _: None)
        assert _value(t) == 0
