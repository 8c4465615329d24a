"""The processes under watch, as they come, go, and become other programs."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from semtrace.linux.process import read_stat
from semtrace.observe.fleet import Fleet
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
