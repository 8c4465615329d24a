"""Processes of tests/programs/blocking.py: threads that block, each in one system call."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semtrace.linux.blocked import Blocked, Call, read_blocked
from semtrace.linux.memory import Memory

from .processes import PROGRAMS, kill_tree, wait_until

# The kind of each call of the program, in its order.
CALLS = {
    "read": Call.READ,
    "readv": Call.READ,
    "write": Call.WRITE,
    "poll": Call.POLL,
    "poll_timed": Call.POLL,
    "poll_empty": Call.SLEEP,
    "ppoll": Call.POLL,
    "ppoll_many": Call.POLL,
    "select": Call.SELECT,
    "select_timed": Call.SELECT,
    "epoll": Call.EPOLL,
    "epoll_timed": Call.EPOLL,
    "wait_child": Call.WAIT,
    "wait_any": Call.WAIT,
    "waitid": Call.WAIT,
    "waitid_pidfd": Call.WAIT,
    "poll_pidfd": Call.POLL,
    "flock": Call.FLOCK,
    "ofd": Call.FCNTL_LOCK,
    "posix": Call.FCNTL_LOCK,
    "accept": Call.ACCEPT,
    "accept_unix": Call.ACCEPT,
    "receive": Call.RECEIVE,
    "receive_message": Call.RECEIVE,
    "send": Call.SEND,
    "sleep": Call.SLEEP,
    "nanosleep": Call.SLEEP,
    "pause": Call.PAUSE,
    "sigwait": Call.PAUSE,
    "sigtimedwait": Call.PAUSE,
    "futex": Call.FUTEX,
    "futex_timed": Call.FUTEX,
    "eventfd": Call.READ,
    "other": Call.OTHER,
}
NEEDS_PIDFD = ("waitid_pidfd", "poll_pidfd")  # Python 3.9


@dataclass
class Blocking:
    """`tids` and `about`, which is what the call is about, by the name of the call."""

    pid: int
    tids: dict[str, int]
    about: dict[str, Any]

    def blocked(self, name: str) -> Blocked:
        found = self.maybe_blocked(name)
        assert found is not None
        return found

    def maybe_blocked(self, name: str) -> Blocked | None:
        with Memory(self.pid) as memory:
            return read_blocked(self.pid, self.tids[name], memory)

    def all_block(self) -> bool:
        found = {name: self.maybe_blocked(name) for name in self.tids}
        return all(each is not None and each.call is CALLS[name] for name, each in found.items())


@contextlib.contextmanager
def blocking(python: str, folder: Path, *names: str) -> Iterator[Blocking]:
    """Start the program and wait until each thread blocks; its files are in `folder`."""
    argv = [python, str(PROGRAMS / "blocking.py"), *names]
    env = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as popen:
        assert popen.stdin
        assert popen.stdout
        try:
            target = Blocking(popen.pid, json.loads(popen.stdout.readline()), {})
            wait_until(target.all_block, what=f"all threads of {names} to block")
            popen.stdin.write("\n")
            popen.stdin.flush()
            target.about = json.loads(popen.stdout.readline())
            yield target
        finally:
            kill_tree(popen.pid)
