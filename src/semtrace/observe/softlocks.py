"""Lock files without a lock of the kernel's: the file exists while somebody holds it, and says who that is."""

from __future__ import annotations

import os
import socket

from semtrace.lazydata import dataclass
from semtrace.linux import safefile
from semtrace.linux.process import read_stat
from semtrace.linux.program import namespace_pids
from semtrace.model import ProcessId

_MOST_BYTES = 1024
_MOST_PID = 1 << 22


@dataclass(frozen=True)
class SoftHolder:
    """`pid` and `host` are as the file has them; `process` is that process, None if it ended or cannot be told.
    `ended`: it is sure that no such process lives on this host. `elsewhere`: the file names another host.
    """

    pid: int
    host: str
    process: ProcessId | None
    ended: bool
    elsewhere: bool = False


def soft_holder(pid: int, path: str) -> SoftHolder | None:
    """Return who wrote a lock file, as a process sees it; None where that cannot be read.

    filelock 3.25 to 4: SoftFileLock writes PID, host name and a token of the process, a line each. Processes of another
    PID namespace have other numbers: then nothing is concluded.
    """
    try:
        fd = safefile.regular(f"/proc/{pid}/root{path}", os.O_RDONLY)
    except OSError:
        return None
    try:
        lines = os.read(fd, _MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(lines) < 2 or not lines[0].isascii() or not lines[0].isdecimal() or not 0 < int(lines[0]) < _MOST_PID:
        return None
    number, host = int(lines[0]), lines[1].strip()
    if host != socket.gethostname() or len(namespace_pids(pid)) != 1 or len(namespace_pids(os.getpid())) != 1:
        return SoftHolder(number, host, None, ended=False, elsewhere=host != socket.gethostname())
    stat = read_stat(number)
    ended = stat is None or stat.ended
    return SoftHolder(number, host, None if stat is None or ended else stat.id, ended)
