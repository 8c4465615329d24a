"""The programs that a server waits for: real shells, followed as far as the bounds allow."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cases.sickness import sleeps_in
from support import kill_tree, wait_until

from semtrace.linux.process import read_stat
from semtrace.model import ProcessId, Target, ThreadId, Wait, WaitKind, Wakers
from semtrace.observe.blocked import programs
from semtrace.observe.blocked.programs import Programs
from semtrace.observe.blocked.waitfor import About, Reason

ABOUT = About({}, lambda process: {}, lambda process, pthread: None, lambda: (), frozenset(), frozenset())
FULL = "head -c 300000 /dev/zero"


def need_command(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{program} is not installed")


@contextlib.contextmanager
def shell(command: str, program: str = "sh") -> Iterator[Reason]:
    """Run a command whose output nobody reads, and yield the wait for its end."""
    popen = subprocess.Popen([program, "-c", command], stdout=subprocess.PIPE)
    try:
        stat = read_stat(popen.pid)
        assert stat is not None
        target = Target(WaitKind.PROCESS_END, "", process=stat.id)
        yield Reason(Wait(ThreadId(ProcessId(1, 1), 1), target, False, Wakers((), (stat.id,))))
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def followed(reason: Reason, settled: dict[str, WaitKind]) -> None:
    """Wait until these programs wait for these things, and no others do."""
    following = Programs()

    def look() -> dict[str, WaitKind]:
        found = following.follow(time.monotonic(), [reason], ABOUT).reasons
        stats = {thread: read_stat(thread.process.pid) for thread in found}
        return {stat.comm: found[thread].wait.target.kind for thread, stat in stats.items() if stat is not None}

    wait_until(lambda: look() == settled, what=str(settled))


END, WRITE, READ = WaitKind.PROCESS_END, WaitKind.PIPE_WRITE, WaitKind.PIPE_READ


def test_pipeline_is_followed_to_its_last_program() -> None:
    with shell(f"{FULL} | cat; true") as reason:
        followed(reason, {"sh": END, "head": WRITE, "cat": WRITE})


def test_each_thread_of_a_program_must_be_explained() -> None:
    with shell(f"{FULL} | sleep 600; true") as reason:
        followed(reason, {"sh": END, "head": WRITE})


@pytest.mark.parametrize("program", ["bash", "dash"])
def test_handlers_of_a_shell_that_waits_help_nobody(program: str) -> None:
    with shell(f"trap 'cat' USR1; {FULL} | cat; true", need_command(program)) as reason:
        followed(reason, {program: END, "head": WRITE, "cat": WRITE})


def test_program_that_handles_a_signal_is_not_explained() -> None:
    with shell(f"trap : USR1; while :; do echo {'x' * 100}; done") as reason:
        (process,) = reason.wait.wakers.processes
        wait_until(lambda: sleeps_in(process.pid, 1), what="the shell to write")
        assert not Programs().follow(time.monotonic(), [reason], ABOUT).reasons


def test_programs_are_followed_up_to_a_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    with shell(f"{FULL} | cat; true") as reason:
        monkeypatch.setattr(programs, "MOST_DEPTH", 0)
        followed(reason, {"sh": END})


def test_programs_are_followed_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with shell(f"{FULL} | cat; true") as reason:
        monkeypatch.setattr(programs, "MOST_PROCESSES", 2)
        following = Programs()
        wait_until(lambda: len(following.follow(time.monotonic(), [reason], ABOUT).reasons) == 2, what="two waits")


def test_member_of_the_server_is_no_program() -> None:
    with shell(f"{FULL} | cat; true") as reason:
        (process,) = reason.wait.wakers.processes
        about = replace(ABOUT, members=frozenset([process]))
        assert not Programs().follow(time.monotonic(), [reason], about).reasons
