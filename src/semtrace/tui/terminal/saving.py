"""Files that `S` writes: the screen as SVG and the snapshot as JSON. It never overwrites a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.linux import safefile
from semtrace.model import Snapshot
from semtrace.reports.schema import snapshot_json


def save(folder: Path, svg: str, snapshot: Snapshot | None, now: datetime) -> list[Path]:
    """Return the paths that were written. Raise SemtraceError on failure; then nothing is left behind."""
    base = f"semtrace-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"
    files = {f"{base}.svg": without_fonts(svg)}
    if snapshot is not None:
        files[f"{base}.json"] = json.dumps(snapshot_json(snapshot), indent=2) + "\n"
    try:
        with safefile.directory(folder, make=True, private=False) as directory:
            _write(directory, files)
    except OSError as error:
        raise SemtraceError(f"cannot save in {folder}: {error.strerror}", "set another folder, see ,") from error
    return [folder / name for name in files]


def _write(directory: int, files: Mapping[str, str]) -> None:
    """Write files that only this user can read: names of locks and what they block may be confidential."""
    written: list[str] = []
    try:
        for name, text in files.items():
            descriptor = safefile.create(name, directory)
            written.append(name)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError:
        for name in written:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
        raise


def without_fonts(svg: str) -> str:
    """Return the SVG without fonts from the web, and with all its blanks.

    Opening Textual's picture would fetch fonts from a server, which would then know of it. Some programs leave out
    blanks at the beginning of a text.
    """
    bare = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return bare.replace("<svg ", '<svg xml:space="preserve" ', 1)
