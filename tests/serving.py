"""A running `semtrace serve`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from commands import SOURCE
from support import alive, child_pids, start, wait_until


class Served:
    """A running `semtrace serve`. `address` is what it printed."""

    def __init__(self, pid: int, log: Path, address: str) -> None:
        self.pid = pid
        self.log = log
        self.address = address
        self.origin, self.token = address.rstrip("/").rsplit("/", 1)
        self.host = self.origin.removeprefix("http://")

    def views(self) -> list[int]:
        return [pid for pid in child_pids(self.pid) if alive(pid)]


@contextlib.contextmanager
def serving(*arguments: object, **env: str) -> Iterator[Served]:
    command = (sys.executable, "-m", "semtrace", "serve", "--port", "0", *map(str, arguments))
    with start(*command, env={"PYTHONPATH": SOURCE, **env}) as (popen, log):

        def address() -> str:
            assert popen.poll() is None, log.read_text()
            text = log.read_text()
            return text.split()[0] if "Ctrl-C" in text else ""

        yield Served(popen.pid, log, wait_until(address, what="the address"))
