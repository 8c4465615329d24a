"""What goes wrong around a target: rights, odd processes, garbage, size, other namespaces. Everything that can be shown
is shown, what cannot is named with its remedy, the exit code is the contract's, and there is never a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import PATIENCE_S, alive, start, wait_until
from support.commands import AS_USER as _AS_USER
from support.commands import NOBODY, SOURCE
from support.commands import run as _semtrace
from support.commands import run_as as _semtrace_as
from support.targets import FEW, SOME, UNLINKED, Target, observing, only, state, target, until, watch

from semtrace import cli, commands
from semtrace.linux import rights
from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat
from semtrace.linux.program import is_kernel_thread
from semtrace.model import Server
from semtrace.observe.observer import Observer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
some = pytest.mark.parametrize("python", SOME.values(), ids=SOME.keys())
few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())


def _assert_what_and_remedy(done: subprocess.CompletedProcess[str]) -> None:
    """One line what, one line remedy, on stderr; nothing on stdout."""
    assert done.stdout == ""
    what, remedy = done.stderr.splitlines()
    assert what.startswith("semtrace: ")
    assert remedy.startswith("  ")
    assert remedy.strip()


# -- who may look


@as_root
def test_another_users_server_shows_its_processes_and_the_sudo_line() -> None:
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        done = _semtrace_as(NOBODY, "dump", t.root)
        assert "Traceback" not in done.stderr + done.stdout
        assert done.returncode == 4, done
        for pid in t.pids.values():
            assert re.search(rf"^ *{pid}\b", done.stdout + done.stderr, re.MULTILINE), done
        assert re.search(rf"sudo .*semtrace.* {t.root}\b", done.stdout), done.stdout
        assert "No semaphores are mapped" not in done.stdout


@as_root
@pytest.mark.parametrize("typed", [("dump", "--stacks"), ("doctor", "--for", "0.2"), ("dump", "--all", "--json")])
def test_the_sudo_line_is_the_same_command_with_its_options(typed: tuple[str, ...]) -> None:
    with target() as t:
        done = _semtrace_as(NOBODY, *typed, t.root)
        assert re.search(rf"sudo \S*.*semtrace {' '.join(typed)} {t.root}\b", done.stdout), done.stdout


@pytest.mark.parametrize(("typed", "given"), [
    (["doctor", "--for", "3"], ["doctor", "--for", "3"]),
    (["run", "--", "gunicorn", "app"], None),
    (["attach", "7", "--browser", "look"], None),
])  # fmt: skip
def test_what_starts_a_server_is_not_to_be_typed_again(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], given: list[str] | None
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(rights, "started_with", told.append)
    monkeypatch.setattr(commands.load(typed[0]), "run", lambda options: 0)
    assert cli.main(typed) == 0
    assert told == ([] if given is None else [given])


@as_root
def test_json_of_a_foreign_server_has_problems_and_null_unknowns() -> None:
    with target() as t:
        t.fork("a")
        done = _semtrace_as(NOBODY, "dump", t.root, "--json")
        assert done.returncode == 4, done
        found = json.loads(done.stdout)
        assert [p["pid"] for p in found["processes"]] == [t.root, t.pids["a"]]
        assert {p["pid"] for p in found["problems"]} == {t.root, t.pids["a"]}
        assert all(p["error"] and "sudo" in p["remedy"] for p in found["problems"])


@as_root
def test_the_same_user_may_look_without_root() -> None:
    with target() as t:
        t.do("p", f"become({NOBODY})")
        t.fork("a")
        t.do("a", "lock.acquire()")
        found = json.loads(_semtrace_as(NOBODY, "dump", t.root, "--json").stdout)
        assert [(lock["state"], lock["holders"][0]["pid"]) for lock in found["locks"]] == [("held", t.pids["a"])]
        assert found["problems"] == []


@as_root
@pytest.mark.parametrize("ended", [False, True])
def test_a_worker_that_cannot_be_read_may_hold_it(ended: bool) -> None:
    """One worker protects itself. The lock is his, or that of one who was killed: from outside it looks the same."""
    with target() as t:
        t.do("p", f"become({NOBODY})")
        t.fork("a", "b", "c")
        t.do("c" if ended else "b", "lock.acquire()")
        t.do("b", "dumpable(0)")
        if ended:
            t.kill("c")
        done = _semtrace_as(NOBODY, "dump", t.root, "--json")
        assert done.returncode == 0, done
        found = json.loads(done.stdout)
        (lock,) = found["locks"]
        assert (lock["state"], lock["holders"]) == ("unknown", [])
        assert re.search(rf"PID {t.pids['b']}\b.*cannot be read", lock["reason"]), lock["reason"]
        assert t.pids["b"] in [p["pid"] for p in found["processes"]]
        assert {p["pid"] for p in found["problems"]} == {t.pids["b"]}


@as_root
def test_worker_that_turns_undumpable_while_observed_prevents_the_proof() -> None:
    """Its memory reads on through the file that is open, its threads do not."""
    script = _AS_USER.replace("sys.exit(main(sys.argv[3:]))", "exec(sys.argv[3])")
    code = """
import time
from semtrace.servers.discovery import server_of
from semtrace.observe.observer import Observer
observer = Observer(server_of(int(sys.argv[4])))
observer.snapshot()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(30):
    print([lock.state for lock in observer.snapshot().locks], flush=True)
    time.sleep(0.02)
"""
    with target() as t:
        t.do("p", f"become({NOBODY})")
        t.fork("a", "b")
        t.thread("b2", by="b")
        t.do("b", "sys.setswitchinterval(100)")
        t.do("a", "lock.acquire()")
        t.block("b2", "lock")
        argv = [sys.executable, "-c", script, str(NOBODY), SOURCE, code, str(t.root)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as viewer:
            assert viewer.stdout is not None
            assert viewer.stdout.readline() == "ready\n"
            t.do("b", "dumpable(0)")
            end = t.hog("b")
            t.do("a", "lock.release()")
            seen, _ = viewer.communicate("go\n", timeout=PATIENCE_S)
            end()
        assert viewer.returncode == 0
        assert "orphaned" not in seen
        assert "unknown" in seen


def test_value_of_a_linked_semaphore_is_shown_without_memory_access(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under Yama: maps may be read, memory may not."""

    def forbidden(self: Memory, pid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with target(made="lock = mp.get_context('spawn').Lock()") as t:
        t.do("p", "lock.acquire()")
        monkeypatch.setattr(Memory, "__init__", forbidden)
        with observing(t.root) as observer:
            snapshot = observer.snapshot()
        lock = only(snapshot)
        assert (lock.state, lock.value, lock.linked) == ("unknown", 0, True)
        assert lock.reason
        assert [p.process and p.process.pid for p in snapshot.problems] == [t.root]
        assert snapshot.problems[0].remedy


# -- which PID


def test_a_program_that_is_no_python_is_no_server() -> None:
    with start("sleep", "60") as (process, _):
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        done = _semtrace("dump", process.pid)
        assert done.returncode == 5, done
        _assert_what_and_remedy(done)


def test_a_thread_of_the_kernel_is_no_server() -> None:
    found = [s for n in os.listdir("/proc") if n.isdecimal() and (s := read_stat(int(n))) and is_kernel_thread(s)]
    if not found:
        pytest.skip("no kernel thread can be seen here")
    done = _semtrace("dump", found[0].id.pid)
    assert done.returncode == 5, done
    _assert_what_and_remedy(done)


def test_a_pid_that_nobody_has_is_no_server() -> None:
    done = _semtrace("dump", 2**22 - 1)
    assert done.returncode == 5, done
    _assert_what_and_remedy(done)


def test_a_zombie_is_no_server() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait_until(lambda: not alive(process.pid))
        done = _semtrace("dump", process.pid)
        assert done.returncode == 5, done
        _assert_what_and_remedy(done)


@pytest.mark.parametrize("pid", ["0", "-1", "1e3", "x", "٣", "99999999999999999999"])
def test_what_is_no_pid_is_refused_without_a_traceback(pid: str) -> None:
    done = _semtrace("dump", "--", pid)
    assert done.returncode in (2, 5), done
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_a_python_without_locks_says_so() -> None:
    with target(made="None") as t:
        done = _semtrace("dump", t.root)
        assert done.returncode == 0, done
        assert "No semaphores are mapped" in done.stdout
        assert str(t.root) in done.stdout


def test_a_thread_id_leads_to_its_process() -> None:
    with target() as t:
        tid = t.thread("p2")
        assert json.loads(_semtrace("dump", tid, "--json").stdout)["server"]["pid"] == t.root


# -- targets that end


@pytest.mark.slow
def test_server_ending_during_a_dump_never_causes_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 30)
    numbers = random.Random(seed)
    print("seed", seed)
    program = (
        "import multiprocessing as m, os, sys; l = m.Lock(); q = m.Queue(); l.acquire()\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0: break\n"
        "print('ready', flush=True); sys.stdin.readline(); os._exit(0)"
    )
    codes = set()
    for _ in range(25):
        argv = [sys.executable, "-S", "-c", program]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            killer = threading.Timer(numbers.uniform(0, 0.12), os.killpg, (process.pid, signal.SIGKILL))
            killer.start()
            codes.add(cli.main(["dump", str(process.pid)]))
            killer.join()
    assert codes <= {0, 5}
    assert "Traceback" not in capsys.readouterr().err


def test_watching_dump_ends_cleanly_when_the_server_ends() -> None:
    with target() as t:
        argv = [sys.executable, "-m", "semtrace", "dump", str(t.root), "--watch", "0.05", "--json"]
        env = {**os.environ, "PYTHONPATH": SOURCE}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            assert first["alive"] is True
            t.kill("p")
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert err == ""
        assert json.loads(out.splitlines()[-1])["alive"] is False


@pytest.mark.parametrize("options", [(), ("--watch", "0.02"), ("--watch", "0.02", "--json")])
def test_a_reader_that_has_seen_enough_ends_it_silently(options: Sequence[str]) -> None:
    with target() as t:
        argv = [sys.executable, "-m", "semtrace", "dump", str(t.root), *options]
        env = {**os.environ, "PYTHONPATH": SOURCE}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(PATIENCE_S) == 0


def test_another_system_is_refused_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code = cli.main(["ps"])
    monkeypatch.undo()
    assert code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert "Linux" in err


# -- colour


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(env: dict[str, str], coloured: bool) -> None:
    with target() as t:
        t.do("p", "lock.acquire()")
        ours, theirs = pty.openpty()
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
        argv = [sys.executable, "-m", "semtrace", "dump", str(t.root)]
        with subprocess.Popen(argv, env={**plain, "PYTHONPATH": SOURCE, **env}, stdout=theirs) as process:
            os.close(theirs)
            written = b"".join(_read_all(ours))
        assert process.returncode == 0
        assert (b"\x1b[" in written) == coloured
        assert b"held" in written


def _read_all(fd: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # EIO: the terminal's other side is closed
        while chunk := os.read(fd, 65536):
            yield chunk
    os.close(fd)


# -- garbage and size


@some
@pytest.mark.parametrize("what", ["object", "semaphore"])
def test_garbage_where_the_lock_should_be_breaks_nothing(python: str, what: str) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    address, size = ("id(lock._semlock)", 56) if what == "object" else ("lock._semlock.handle", 32)
    with target(python) as t:
        t.fork("a")
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            state(observer, "held")
            t.start_doing("a", f"scribble({address}, {size}, {seed})", "scribbling")
            for snapshot in watch(observer, 1.0, 0.001):
                assert snapshot.alive
                assert only(snapshot).state != "orphaned"
                assert {h.pid for h in only(snapshot).holders} <= set(t.pids.values())


def test_process_with_ten_thousand_mappings_is_read_like_any_other() -> None:
    with target() as t:
        t.do("p", "import mmap")
        both, one = "mmap.PROT_READ | mmap.PROT_WRITE", "mmap.PROT_READ"
        area = "mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS"
        mapped = f"mmap.mmap(-1, 4096, {area}, {both} if i % 2 else {one})"
        t.do("p", f"len([GLOBALS.setdefault(i, {mapped}) for i in range(10000)])")
        with open(f"/proc/{t.root}/maps") as maps:
            assert sum(1 for _ in maps) > 10000
        t.fork("a")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            assert [h.pid for h in state(observer, "held").holders] == [t.pids["a"]]
            cost = sorted(observer.snapshot().cost_s for _ in range(10))[0]
            assert cost < 0.05


@pytest.mark.slow
def test_a_process_of_300_megabytes_is_searched_in_slices() -> None:
    with target() as t:
        t.do("p", "big = b'x' * (300 << 20)")
        t.do("p", "late = mp.Lock()")
        t.do("p", "[lock.acquire(), late.acquire()]")
        with contextlib.closing(Observer(_server(t), search_budget_s=0.05)) as observer:
            longest = 0.0

            def both_held() -> bool:
                nonlocal longest
                snapshot = observer.snapshot()
                longest = max(longest, snapshot.cost_s)
                assert not any(lock.state == "orphaned" for lock in snapshot.locks)
                return [lock.state for lock in snapshot.locks] == ["held", "held"]

            wait_until(both_held)
            assert longest < 0.2, "one refresh searched for longer than its budget, by its time on a processor"


def _server(t: Target) -> Server:
    from semtrace.servers.discovery import server_of

    return server_of(t.root)


# -- namespaces


def _can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "-p", "--fork", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


namespaces = pytest.mark.skipif(not _can_unshare(), reason="unshare is not possible here")
CONTAINER = ("unshare", "-m", "-p", "--fork", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "-")


@namespaces
@few
def test_a_container_is_seen_from_the_host(python: str) -> None:
    with target(python, "lock = mp.get_context('spawn').Lock()", CONTAINER) as t:
        name = t.do("p", "lock._semlock.name").strip("'")
        t.fork("a", "b")
        tid = t.thread("a2", by="a")
        t.do("a2", "lock.acquire()")
        t.block("b", "lock")
        with observing(t.root) as observer:
            lock = state(observer, "contended")
            assert [(h.pid, h.tid) for h in lock.holders] == [(t.pids["a"], tid)]
            assert [(w.pid, w.tid) for w in lock.waiters] == [(t.pids["b"], t.tids["b"])]
            assert (lock.linked, lock.shm_name) == (True, name)
            assert not Path("/dev/shm", f"sem.{name.removeprefix('/')}").exists()
            t.kill("a")
            state(observer, "orphaned")


@namespaces
def test_unlinked_lock_in_a_container_is_visible_from_the_host() -> None:
    with target(made=UNLINKED, wrapper=CONTAINER) as t:
        t.fork("a")
        with observing(t.root) as observer:
            assert not state(observer, "free").linked
            t.do("a", "lock.acquire()")
            assert [h.pid for h in state(observer, "held").holders] == [t.pids["a"]]


@namespaces
@pytest.mark.slow
def test_container_sharing_dev_shm_cannot_prove_a_linked_lock_orphaned() -> None:
    """As with `--ipc=host`: who holds it may be where it cannot be seen from here."""
    inside = (
        "import os, subprocess, sys\n"
        "from _multiprocessing import SemLock\n"
        "other = SemLock._rebuild(0, 1, 1, sys.argv[1])\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'semtrace', 'dump', str(os.getpid()), '--json']).returncode)"
    )
    with target(made="lock = mp.get_context('spawn').Lock()") as t:
        name = t.do("p", "lock._semlock.name").strip("'")
        t.do("p", "lock.acquire()")
        argv = ["unshare", "-m", "-p", "--fork", "--mount-proc", sys.executable, "-c", inside, name]
        env = {**os.environ, "PYTHONPATH": SOURCE}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done
        (lock,) = json.loads(done.stdout)["locks"]
        assert lock["state"] == "unknown", lock
        assert lock["reason"]


@namespaces
def test_container_cannot_prove_a_lock_inherited_from_outside_orphaned() -> None:
    """The holder is outside, where it cannot be seen from here."""
    inside = (
        "import ctypes, multiprocessing, os, subprocess, sys\n"
        "lock, (taken, told) = multiprocessing.Lock(), os.pipe()\n"
        "assert ctypes.CDLL(None).unshare(0x20020000) == 0\n"  # CLONE_NEWPID | CLONE_NEWNS
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    subprocess.run('mount --make-rprivate / && mount -t proc proc /proc', shell=True, check=True)\n"
        "    os.read(taken, 1)\n"
        "    command = [sys.executable, '-m', 'semtrace', 'doctor', '1', '--json']\n"
        "    os._exit(subprocess.run(command).returncode)\n"
        "lock.acquire()\n"
        "os.write(told, b'.')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    env = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", inside], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert "orphaned-lock" not in [f["code"] for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]


def test_a_target_of_these_tests_leaves_nothing_in_dev_shm() -> None:
    with target(made="lock = mp.get_context('spawn').Lock()") as t:
        name = t.do("p", "lock._semlock.name").strip("'")
        with observing(t.root) as observer:
            until(observer, lambda s: only(s).shm_name == name)
        path = Path("/dev/shm", f"sem.{name.removeprefix('/')}")
        assert path.exists()
    assert not path.exists()
