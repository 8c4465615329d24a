"""The processes under watch, as they come, go, and become other programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat
from semtrace.observe.watch.fleet import Fleet
from semtrace.servers.tree import Member

# The child of a fork, which becomes another program at the first line that it is sent, and ends with the second.
FORKING = """
import os, sys
if pid := os.fork():
    print(pid, flush=True)
    os.waitpid(pid, 0)
else:
    os.read(0, 1)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
BECOMES = """
import multiprocessing, os
lock = multiprocessing.get_context("fork").Lock()
print("made", flush=True)
os.read(0, 1)
"""


def members(pid: int) -> list[Member]:
    stat = read_stat(pid)
    assert stat is not None
    return [Member(stat, "process")]


def test_a_fork_that_becomes_another_program_is_looked_into_anew() -> None:
    command = [sys.executable, "-c", FORKING, BECOMES]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        contextlib.closing(Fleet()) as fleet,
    ):
        assert process.stdin
        assert process.stdout
        child = int(process.stdout.readline())
        fleet.follow(members(child), 0.0)
        assert not fleet.mappers
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"made\n"
        assert fleet.follow(members(child), 100.0)
        assert [each.id.pid for mappers in fleet.mappers.values() for each in mappers] == [child]
        process.stdin.close()


AWAY = """
import multiprocessing, os
lock = multiprocessing.get_context("fork").Lock()
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    print(os.getpid(), flush=True)
    if os.read(0, 1):
        del lock
        print("dropped", flush=True)
        os.read(0, 1)
    os._exit(0)
os.wait()
os.read(3, 1)
"""


def _maps(fleet: Fleet) -> list[list[int]]:
    return [[each.id.pid for each in mappers] for mappers in fleet.mappers.values()]


def test_a_process_outside_that_maps_a_lock_is_a_guest() -> None:
    away_in, give = os.pipe()
    stay_in, stay = os.pipe()
    with (
        subprocess.Popen(
            [sys.executable, "-c", AWAY.replace("read(3", f"read({stay_in}")],
            stdin=away_in,
            stdout=subprocess.PIPE,
            pass_fds=[stay_in],
        ) as process,
        contextlib.closing(Fleet()) as fleet,
    ):
        assert process.stdout
        away = int(process.stdout.readline())
        fleet.follow(members(process.pid), 0.0)
        assert _maps(fleet) == [[process.pid]]
        assert fleet.invite(away)
        assert fleet.follow(members(process.pid), 1.0)
        assert _maps(fleet) == [[process.pid, away]]
        assert [each.id.pid for each in fleet.all] == [process.pid]
        assert not fleet.follow(members(process.pid), 2.0)

        both = [*members(process.pid), *members(away)]
        assert fleet.follow(both, 3.0), "it becomes a member"
        assert _maps(fleet) == [[process.pid, away]]
        assert len(fleet.all) == 2
        fleet.follow(members(process.pid), 4.0)
        assert _maps(fleet) == [[process.pid]]

        assert fleet.invite(away)
        fleet.follow(members(process.pid), 5.0)
        os.write(give, b"x")
        assert process.stdout.readline() == b"dropped\n"
        assert fleet.follow(members(process.pid), 100.0), "it maps none of the server's locks any more"
        assert _maps(fleet) == [[process.pid]]
        for fd in (give, stay, away_in, stay_in):
            os.close(fd)


def test_a_guest_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(memory: Memory, pid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(Memory, "__init__", refuse)
    with contextlib.closing(Fleet()) as fleet:
        assert not fleet.invite(os.getpid())
