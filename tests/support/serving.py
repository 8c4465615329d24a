"""A running `semtrace serve`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .commands import SOURCE
from .processes import alive, child_pids, start, wait_until


class Served:
    """A running `semtrace serve`. `address` is what it printed. `server` is the process that listens: root's has a
    parent that could leave it behind.
    """

    def __init__(self, pid: int, log: Path, address: str) -> None:
        self.pid = pid
        self.server = child_pids(pid)[0] if os.geteuid() == 0 else pid
        self.log = log
        self.address = address
        self.origin, self.token = address.rstrip("/").rsplit("/", 1)
        self.host = self.origin.removeprefix("http://")

    def views(self) -> list[int]:
        return [pid for pid in child_pids(self.server) if alive(pid)]


@contextlib.contextmanager
def serving(*arguments: object, **env: str) -> Iterator[Served]:
    command = (sys.executable, "-m", "semtrace", "serve", "--port", "0", *map(str, arguments))
    with start(*command, env={"PYTHONPATH": SOURCE, **env}) as (popen, log):

        def address() -> str:
            assert popen.poll() is None, log.read_text()
            text = log.read_text()
            return text.split()[0] if "Ctrl-C" in text else ""

        yield Served(popen.pid, log, wait_until(address, what="the address"))
