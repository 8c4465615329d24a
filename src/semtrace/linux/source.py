"""One line of a Python file as the process that runs it sees it, also inside its container."""

from __future__ import annotations

import os

from semtrace.linux import safefile
from semtrace.linux.process import Stat, read_stat

# A process is dated by its ticks and the machine's clock, which may have been set since.
_SLACK_S = 2.0
_MOST_PARENTS = 16
_MOST_BYTES = 4 << 20
_MOST_FILES = 32
_LONGEST = 120


class SourceLines:
    """Lines of source for one process. Its stack names the files, so only what is called `.py` is opened, and only if
    it is a regular file: a stack may lie.

    A file that has changed since the program began has none: its lines may be others than those that run. `began_at` is
    that time, in seconds since the epoch, by default that of the process or of the one whose program it runs on since a
    fork.
    """

    def __init__(self, pid: int, began_at: float | None = None) -> None:
        self._pid = pid
        self._began_at = _began_at(pid) if began_at is None else began_at
        self._files: dict[str, list[bytes] | None] = {}

    def line(self, file: str, number: int) -> str | None:
        """Return the line without its indentation; None without one."""
        if file not in self._files:
            self._files[file] = self._read(file) if len(self._files) < _MOST_FILES else None
        lines = self._files[file]
        if lines is None or not 0 < number <= len(lines):
            return None
        text = lines[number - 1].decode(errors="replace").strip()
        text = "".join(c if c.isprintable() else "?" for c in text)
        return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…") or None

    def _read(self, file: str) -> list[bytes] | None:
        if "\0" in file or not file.endswith(".py"):
            return None
        below = "root" if file.startswith("/") else "cwd"
        try:
            fd = safefile.regular(f"/proc/{self._pid}/{below}/{file}", os.O_RDONLY, follow=True)
        except (OSError, ValueError):
            return None
        try:
            is_source = os.readlink(f"/proc/self/fd/{fd}").endswith(".py") and not self._has_changed(fd)
            return os.read(fd, _MOST_BYTES).split(b"\n") if is_source else None
        except OSError:
            return None
        finally:
            os.close(fd)

    def _has_changed(self, fd: int) -> bool:
        """Return True if its ctime is later, which no program can set: rsync and tar give a new file an old mtime."""
        return self._began_at is None or os.fstat(fd).st_ctime > self._began_at + _SLACK_S


def _began_at(pid: int) -> float | None:
    """Return when the program began, None if the process ended. A fork runs on what its parent has imported."""
    stat = read_stat(pid)
    began_at = None
    for _ in range(_MOST_PARENTS):
        if stat is None:
            break
        began_at = stat.started_at
        stat = _forked_from(stat)
    return began_at


def _forked_from(stat: Stat) -> Stat | None:
    """Return the parent whose program the process runs on, None where it has executed one, or that parent ended."""
    if not stat.forked:
        return None
    try:
        same = os.readlink(f"/proc/{stat.id.pid}/exe") == os.readlink(f"/proc/{stat.ppid}/exe")
    except OSError:
        return None
    return read_stat(stat.ppid) if same else None
