"""The files into which servers write that `semtrace run` started. They may outlive semtrace, for a server that is left
running writes on. So each bears its server's name, and the next run removes those of servers that have ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from semtrace.linux import safefile
from semtrace.linux.lease import in_use
from semtrace.linux.process import read_stat, still
from semtrace.model import ProcessId

_PREFIX, _SUFFIX = "semtrace-run-", ".log"
_NAME = re.compile(r"semtrace-run-([1-9]\d{0,9})-(\d{1,20})-[a-z0-9_]{8}\.log", re.ASCII)


def make() -> tuple[int, Path]:
    """A new file, open for writing; it is nobody's yet."""
    folder = Path(tempfile.gettempdir())
    name = f"{_PREFIX}{secrets.token_hex(4)}{_SUFFIX}"
    with safefile.directory(folder, private=False) as directory:
        return safefile.create(name, directory, os.O_RDWR), folder / name


def name_after(log: Path, pid: int) -> Path:
    """Give it the name of the server that writes it: of this very process, for pids are reused."""
    server = read_stat(pid)
    if server is None:
        return log
    named = log.with_name(f"{_PREFIX}{pid}-{server.id.start_ticks}-{log.name.removeprefix(_PREFIX)}")
    with contextlib.suppress(OSError):
        log.rename(named)
        return named
    return log


def sweep(directory: Path | None = None) -> None:
    """Remove those of this user whose server has ended and that nobody writes any more, as far as that is known."""
    folder = directory or Path(tempfile.gettempdir())
    with contextlib.suppress(OSError), safefile.directory(folder, private=False) as fd:
        for name in os.listdir(fd):  # noqa: PTH208  pathlib has no directory by its descriptor
            if _is_left(name, fd):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=fd)


def _is_left(name: str, directory: int) -> bool:
    found = _NAME.fullmatch(name)
    if found is None or still(ProcessId(int(found[1]), int(found[2]))):
        return False
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
        return False
    # Its first process may have ended and others go on: a shell that started it, or a server in another container.
    with in_use(name, directory) as used:
        return used is False
