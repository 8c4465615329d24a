"""Metrics in a file for the textfile collector of node_exporter."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.linux import safefile

_EVERYBODY_READS = 0o644


def check(path: Path) -> None:
    """Raise UsageError for a path that node_exporter would not read."""
    if path.suffix != ".prom":
        raise UsageError(f"the name of {path} does not end with .prom", "node_exporter reads *.prom only")


def write(path: Path, text: bytes) -> None:
    """Put the file in place in one step, so that nobody reads half of it. Raises SemtraceError."""
    try:
        with safefile.directory(path.parent) as directory:
            _write(path.name, text, directory)
    except OSError as error:
        raise SemtraceError(
            f"cannot write {path}: {error.strerror}", "choose a directory that is yours alone"
        ) from error


def remove(path: Path) -> None:
    """Remove the file, for what it says is not so any more once nobody samples."""
    with suppress(OSError), safefile.directory(path.parent) as directory:
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
