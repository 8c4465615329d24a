"""Metrics in a file for the textfile collector of node_exporter.

Its directory may be another user's: on Debian it lies in one of Prometheus. So no link of another user is followed, and
only an entry with the name of the file is made, replaced and removed.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.linux import safefile

_EVERYBODY_READS = 0o644

_REMEDIES = {
    errno.ENOENT: "make that directory first",
    errno.ENOSPC: "free some room there",
    errno.EDQUOT: "free some room there",
}
_ANOTHER = "choose a directory that this user can write to"


def check(path: Path) -> None:
    """Raise UsageError for a path that node_exporter would not read."""
    if path.suffix != ".prom":
        raise UsageError(f"the name of {path} does not end with .prom", "node_exporter reads *.prom only")


def write(path: Path, text: bytes) -> None:
    """Put the file in place in one step, so that nobody reads half of it. Raises SemtraceError."""
    try:
        with safefile.directory(path.parent, private=False) as directory:
            _write(path.name, text, directory)
    except OSError as error:
        raise SemtraceError(
            f"cannot write {path}: {error.strerror}", _REMEDIES.get(error.errno or 0, _ANOTHER)
        ) from error


class Writer:
    """Write the file again and again. A failure at the first time is an error of the user. Later it is reported once,
    and the file stays as it is. Its age then shows that nobody watches.
    """

    def __init__(self, path: Path, report: Callable[[str], object]) -> None:
        self._path, self._report = path, report
        self._written = False
        self._reported = ""

    def write(self, text: bytes) -> None:
        """Raises SemtraceError the first time."""
        try:
            write(self._path, text)
        except SemtraceError as error:
            if not self._written:
                raise
            if str(error) != self._reported:
                self._report(f"{error}; trying again")
            self._reported = str(error)
            return
        if not self._written:
            self._report(f"metrics are in {self._path}")
        self._written, self._reported = True, ""


def remove(path: Path) -> None:
    """Remove the file, for what it says is not so any more once nobody samples."""
    with suppress(OSError), safefile.directory(path.parent, private=False) as directory:
        os.unlink(path.name, dir_fd=directory)


def _write(name: str, text: bytes, directory: int) -> None:
    new = f".{name}.{secrets.token_hex(8)}"  # does not end with .prom
    try:
        with open(safefile.create(new, directory), "wb") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), _EVERYBODY_READS)
        os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(new, dir_fd=directory)
        raise
