"""The version of a server's distribution, by what is installed where it runs.

The owner of an installation chooses how much is in a directory: everything here has a bound.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from semtrace.linux import program
from semtrace.servers import processes

_MOST_ENTRIES = 10_000
_MOST_DIRECTORIES = 8
_SITE_PACKAGES = re.compile(rb" (/[^\n]*?/(?:site|dist)-packages)/")
_INFO = re.compile(r"([\w.]+)-(\d[\w.!+]*?)(?:-py[\d.]+)?\.(?:dist|egg)-info\Z")


def version_of(pid: int, distribution: str) -> str | None:
    """Return what is installed next to the modules that it has mapped, or next to its script; None if that is
    ambiguous.
    """
    maps = program.read(f"/proc/{pid}/maps", 16 << 20) or b""
    directories = {match.decode(errors="replace") for match in _SITE_PACKAGES.findall(maps)}
    root = Path(f"/proc/{pid}/root")
    versions = set()
    for prefix in _prefixes(pid):
        for library in _entries(root / prefix.lstrip("/"), "lib"):
            for python in _entries(library, "python3"):
                directories |= {f"/{found.relative_to(root)}" for found in _entries(python, "", "-packages")}
    for directory in islice(directories, _MOST_DIRECTORIES):
        for entry in _entries(root / directory.lstrip("/"), _beginnings(distribution), "-info"):
            found = _INFO.match(entry.name)
            if found and _plain(found[1]) == _plain(distribution):
                versions.add(found[2])
    return versions.pop() if len(versions) == 1 else None


def _plain(name: str) -> str:
    """A distribution's name has several spellings, also in file names (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _beginnings(distribution: str) -> tuple[str, ...]:
    return tuple(f"{name}-" for name in (distribution, distribution.replace("-", "_")))


def _entries(directory: Path, begin: str | tuple[str, ...], end: str = "") -> list[Path]:
    """Return a bounded number of entries with such names, none if the directory cannot be read.

    It is bounded because the directory's owner decides how many there are.
    """
    try:
        with os.scandir(directory) as entries:
            named = (each.name for each in islice(entries, _MOST_ENTRIES))
            found = (directory / name for name in named if name.startswith(begin) and name.endswith(end))
            return list(islice(found, _MOST_DIRECTORIES))
    except OSError:
        return []


def _prefixes(pid: int) -> set[str]:
    """The directories above `bin` of its interpreter and script, as far as they were given in full."""
    return {
        word.rpartition("/bin/")[0] or "/"
        for word in (*processes.cmdline(pid)[:2], *_native(pid))
        if word.startswith("/") and "/" not in word.rpartition("/bin/")[2]
    }


def _native(pid: int) -> list[str]:
    """Return the path of a program that is not a Python interpreter, as uWSGI. It lies where it was installed."""
    path = processes.executable(pid) or ""
    return [] if processes.is_interpreter(path) else [path]
