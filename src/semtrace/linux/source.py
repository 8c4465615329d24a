"""One line of a Python file as the process that runs it sees it, also inside its container."""

from __future__ import annotations

import os

from semtrace.linux import safefile

_MOST_BYTES = 4 << 20
_MOST_FILES = 32
_LONGEST = 120


class SourceLines:
    """Lines of source for one process. Its stack names the files, so only what is called `.py` is opened, and only if
    it is a regular file: a stack may lie.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._files: dict[str, list[bytes] | None] = {}

    def line(self, file: str, number: int) -> str | None:
        """Return the line without its indentation; None without one. The file may have changed since its import."""
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
            is_source = os.readlink(f"/proc/self/fd/{fd}").endswith(".py")
            return os.read(fd, _MOST_BYTES).split(b"\n") if is_source else None
        except OSError:
            return None
        finally:
            os.close(fd)
