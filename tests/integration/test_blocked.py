"""The call in which a thread blocks: real threads, one in each call, of the oldest Python and of this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support import child_pids, kill_tree, start_ticks, wait_until
from support.blocking import CALLS, NEEDS_PIDFD, Blocking, blocking
from support.pythons import need

from semtrace.linux.blocked import ANY_CHILD, MOST_DESCRIPTORS, Awaited, Blocked, Call, read_blocked
from semtrace.linux.futex import read_thread
from semtrace.linux.syscalls import NUMBERS
from semtrace.observe.observer import Observer, settle
from semtrace.servers.discovery import server_of

pytestmark = pytest.mark.skipif(not NUMBERS, reason="the system calls of this processor are not known")

# It forks, so it has the pipes of the others: see test_filelocks.
SEPARATE = ("posix",)


def _own() -> str:
    return f"3.{sys.version_info[1]}"


@pytest.fixture(scope="module", params=["3.8", _own()])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blocking]:
    version = request.param
    python = sys.executable if version == _own() else need(version)
    names = [name for name in CALLS if name not in (*SEPARATE, *(NEEDS_PIDFD if version == "3.8" else ()))]
    with blocking(python, tmp_path_factory.mktemp("blocking"), *names) as found:
        yield found


def _reads(about: list[int]) -> tuple[Awaited, ...]:
    return (Awaited(about[0], readable=True),)


# What is to be found for each call, from what the program says that it is about.
EXPECTED: dict[str, Callable[[Any], Blocked]] = {
    "read": lambda about: Blocked(Call.READ, fds=_reads(about)),
    "readv": lambda about: Blocked(Call.READ, fds=_reads(about)),
    "write": lambda about: Blocked(Call.WRITE, fds=(Awaited(about[1], writable=True),)),
    "poll": lambda about: Blocked(Call.POLL, fds=(*_reads(about), Awaited(about[1], writable=True))),
    "poll_timed": lambda about: Blocked(Call.POLL, True, fds=_reads(about)),
    "poll_empty": lambda _: Blocked(Call.SLEEP, True),
    "ppoll": lambda about: Blocked(Call.POLL, fds=_reads(about)),
    "ppoll_many": lambda about: Blocked(Call.POLL, True, fds=_reads(about) * MOST_DESCRIPTORS, complete=False),
    "select": lambda about: Blocked(Call.SELECT, fds=_reads(about)),
    "select_timed": lambda about: Blocked(Call.SELECT, True, fds=_reads(about)),
    "epoll": lambda about: Blocked(Call.EPOLL, fds=_reads(about)),
    "epoll_timed": lambda about: Blocked(Call.EPOLL, True, fds=_reads(about)),
    "wait_child": lambda about: Blocked(Call.WAIT, child=about),
    "wait_any": lambda _: Blocked(Call.WAIT, child=ANY_CHILD),
    "waitid": lambda about: Blocked(Call.WAIT, child=about),
    "waitid_pidfd": lambda about: Blocked(Call.WAIT, fds=(Awaited(about[1], readable=True),), child=about[0]),
    "poll_pidfd": lambda about: Blocked(Call.POLL, fds=(Awaited(about[1], readable=True),)),
    "flock": lambda about: Blocked(Call.FLOCK, fds=(Awaited(about[1]),)),
    "ofd": lambda about: Blocked(Call.FCNTL_LOCK, fds=(Awaited(about[1]),)),
    "accept": lambda about: Blocked(Call.ACCEPT, fds=(Awaited(about, readable=True),)),
    "accept_unix": lambda about: Blocked(Call.ACCEPT, fds=_reads(about)),
    "receive": lambda about: Blocked(Call.RECEIVE, fds=_reads(about)),
    "receive_message": lambda about: Blocked(Call.RECEIVE, fds=_reads(about)),
    "send": lambda about: Blocked(Call.SEND, fds=(Awaited(about[0], writable=True),)),
    "sleep": lambda _: Blocked(Call.SLEEP, True),
    "nanosleep": lambda _: Blocked(Call.SLEEP, True),
    "pause": lambda _: Blocked(Call.PAUSE),
    "sigwait": lambda _: Blocked(Call.PAUSE),
    "sigtimedwait": lambda _: Blocked(Call.PAUSE, True),
    "eventfd": lambda about: Blocked(Call.READ, fds=(Awaited(about, readable=True),)),
    "other": lambda _: Blocked(Call.OTHER),
}


def _without_addresses(blocked: Blocked) -> Blocked:
    return replace(blocked, stack=None, number=None)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_call_is_decoded(target: Blocking, name: str) -> None:
    if name not in target.tids:
        pytest.skip("this Python has no pidfd_open")
    found = target.blocked(name)
    assert _without_addresses(found) == EXPECTED[name](target.about.get(name))
    assert found.stack


@pytest.mark.parametrize(("name", "timed"), [("futex", False), ("futex_timed", True)])
def test_a_wait_in_futex_has_its_address(target: Blocking, name: str, timed: bool) -> None:
    found = target.blocked(name)
    thread = read_thread(target.pid, target.tids[name])
    assert thread is not None
    assert (found.call, found.timed, found.stack) == (Call.FUTEX, timed, thread.stack)
    assert found.futex == thread.futex is not None


def test_without_memory_the_descriptors_of_poll_are_incomplete(target: Blocking) -> None:
    found = read_blocked(target.pid, target.tids["poll"], None)
    assert found is not None
    assert _without_addresses(found) == Blocked(Call.POLL, complete=False)


def test_a_timed_wait_is_recognised_after_a_stop(tmp_path: os.PathLike[str]) -> None:
    """The kernel shows restart_syscall then, but not for ppoll, by which `select.poll` waits from Python 3.15 on."""
    names = ("poll_timed", "futex_timed", "nanosleep")
    with blocking(sys.executable, tmp_path, *names) as target:
        found = {name: target.blocked(name) for name in names}
        before = {name: replace(blocked, number=None) for name, blocked in found.items()}
        restarting = [name for name in names if found[name].number != NUMBERS["ppoll"]]
        os.kill(target.pid, signal.SIGSTOP)
        wait_until(lambda: _state(target.pid) == "T", what="the process to stop")
        os.kill(target.pid, signal.SIGCONT)
        restarted = NUMBERS["restart_syscall"]
        wait_until(
            lambda: all(target.blocked(name).number == restarted for name in restarting), what="the calls to restart"
        )
        wait_until(target.all_block, what="the threads to sleep")
        assert {name: replace(target.blocked(name), number=None) for name in names} == before


CONTAINED = (
    "import os, subprocess; child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True); child.wait()"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a PID namespace")
def test_child_in_a_pid_namespace_has_the_outer_pid() -> None:
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", CONTAINED]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as popen:
        try:
            assert popen.stdout
            inner = int(popen.stdout.readline())
            (parent,) = child_pids(popen.pid)
            (child,) = child_pids(parent)
            found = wait_until(lambda: (b := read_blocked(parent, parent, None)) and b.call is Call.WAIT and b)
            assert inner != child == found.child
        finally:
            kill_tree(popen.pid)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_thread_that_runs_or_has_ended_is_not_blocked() -> None:
    own = read_blocked(os.getpid(), os.getpid(), None)
    assert own is not None
    assert own.call in (Call.RUNNING, Call.READ)  # it reads the very file
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_until(lambda: _state(child) == "Z", what="the child to end")
    assert start_ticks(child) is not None
    assert read_blocked(child, child, None) is None
    os.waitpid(child, 0)
    assert read_blocked(child, child, None) is None


def test_snapshot_shows_who_is_stuck_without_the_schedulers_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that was moved to another processor while it slept has no time of its last run (linux/sleep)."""
    for module in ("history.sleepers", "history.resting"):
        monkeypatch.setattr(f"semtrace.observe.{module}.slept_s", lambda *_: None)
    program = "import threading; lock = threading.Lock(); lock.acquire(); print(flush=True); lock.acquire()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            popen.stdout.readline()
            wait_until(lambda: called(popen.pid) is Call.FUTEX, what="it to sleep")
            with contextlib.closing(Observer(server_of(popen.pid))) as observer:
                assert {thread.tid for thread in settle(observer).waits.stuck} == {popen.pid}
        finally:
            popen.kill()


def called(pid: int) -> Call | None:
    blocked = read_blocked(pid, pid, None)
    return blocked.call if blocked else None
