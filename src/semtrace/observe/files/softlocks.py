"""Lock files without a lock of the kernel's: the file exists while somebody holds it, and says who that is.

The formats are filelock's: 3.25 to 4, `_soft/_records.py` and `_soft/_strict/_claims.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import cache
from itertools import islice

from semtrace.lazydata import dataclass
from semtrace.linux import safefile
from semtrace.linux.process import read_stat
from semtrace.linux.program import namespace_pids, read
from semtrace.model import ProcessId

_MOST_BYTES = 1024
_MOST_PID = 1 << 22
_MOST_CLAIMS = 256
_MARKER = "filelock/2"
_STRICT = "filelock-strict-v1"
_SENTINEL = f"1\n{_STRICT}\0\n0\n"


@dataclass(frozen=True)
class SoftHolder:
    """`pid` and `host` are as the file has them; `process` is that process, None if it ended or is not known. `ended`:
    it is sure that no such process lives on this host. `elsewhere`: the file names another host.
    """

    pid: int
    host: str
    process: ProcessId | None
    ended: bool
    elsewhere: bool = False


@dataclass(frozen=True)
class Owner:
    """An owner as a lock file names it. `token` is the boot ID, or 0, shifted left by 64 bits, and the start of
    the process in ticks. `removable`: nobody but a person removes the file once its owner has ended.
    """

    pid: int
    host: str
    token: int | None = None
    removable: bool = True


def soft_holder(pid: int, path: str) -> SoftHolder | None:
    """Return who wrote a lock file, as a process sees it; None where that cannot be read.

    Processes of another PID namespace have other numbers: then nothing is concluded.
    """
    file = f"/proc/{pid}/root{path}"
    text = _text(file)
    owner = _claim(file) if text == _SENTINEL else parse_owner(text)
    if owner is None:
        return None
    if owner.host != socket.gethostname():
        return SoftHolder(owner.pid, owner.host, None, ended=False, elsewhere=owner.removable)
    if len(namespace_pids(pid)) != 1 or len(namespace_pids(os.getpid())) != 1 or not _is_of_this_boot(owner):
        return SoftHolder(owner.pid, owner.host, None, ended=False)
    stat = read_stat(owner.pid)
    if stat is None or stat.ended or (owner.token is not None and owner.token & _TICKS != stat.id.start_ticks):
        return SoftHolder(owner.pid, owner.host, None, ended=owner.removable)
    return SoftHolder(owner.pid, owner.host, stat.id, ended=False)


_TICKS = (1 << 64) - 1


def parse_owner(text: str) -> Owner | None:
    """Return the owner that a lock file names: PID, host name and token, a line each, or fields after `filelock/2`."""
    lines = text.splitlines()
    if not text.endswith("\n"):
        return None  # its writer is not ready
    if lines[0] != _MARKER:
        return _owner(lines[0], lines[1], "".join(lines[2:])) if len(lines) in (2, 3) else None
    fields = dict(line.partition("=")[::2] for line in lines[1:])
    # A lease expires by itself, and what a later mode means is not known.
    removable = fields.get("mode") == "exclusive"
    return _owner(fields.get("pid", ""), fields.get("host", ""), fields.get("start", ""), removable)


def _owner(pid: str, host: str, token: str = "", removable: bool = True) -> Owner | None:
    number = _decimal(pid)
    if number is None or not 0 < number < _MOST_PID or not host.isprintable() or not host.strip():
        return None
    return Owner(number, host.strip(), _decimal(token), removable)


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 64 else None


def _is_of_this_boot(owner: Owner) -> bool:
    """Return False for an owner from before a restart, or on another host of the same name."""
    boot = owner.token >> 64 if owner.token is not None else 0
    return not boot or f"{boot:032x}" == _boot_id()


@cache
def _boot_id() -> str:
    return (read("/proc/sys/kernel/random/boot_id") or b"").decode(errors="replace").strip().replace("-", "")


def _claim(file: str) -> Owner | None:
    """Return the holder of a strict lock file: it has a folder of claims next to it. Its program removes them."""
    folder = f"{file}.filelock/claims"
    held = (owner for name in _held(folder) if (owner := parse_claim(_text(f"{folder}/{name}"))) is not None)
    return next(held, None)


def _held(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_CLAIMS)]
    except OSError:
        return
    yield from (name for name in sorted(names) if name.startswith("held-v1-") and name.endswith(".claim"))


def parse_claim(text: str) -> Owner | None:
    """Return the owner of `filelock-strict-v1`, a token, PID, host name in hexadecimal and start, a line each."""
    lines = text.splitlines()
    if not text.endswith("\n") or len(lines) != 5 or lines[0] != _STRICT:
        return None
    try:
        host = bytes.fromhex(lines[3]).decode()
    except ValueError:
        return None
    return _owner(lines[2], host, lines[4], removable=False)


def _text(path: str) -> str:
    """Return the text of a small file, nothing where it cannot be read."""
    try:
        fd = safefile.regular(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(fd, _MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
