"""What `S` writes: the screen as SVG and the snapshot as JSON, side by side, never over something that is there."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.model import Snapshot
from semtrace.reports.schema import snapshot_json


def save(folder: Path, svg: str, snapshot: Snapshot | None, now: datetime) -> list[Path]:
    """Returns what was written. Raises SemtraceError if it could not be; then nothing is left behind."""
    base = f"semtrace-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"
    files = {folder / f"{base}.svg": without_fonts(svg)}
    if snapshot is not None:
        files[folder / f"{base}.json"] = json.dumps(snapshot_json(snapshot), indent=2) + "\n"
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            # What a lock is called and what it holds up may be nobody else's business.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(path)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise SemtraceError(f"cannot save in {folder}: {error.strerror}", "set another folder, see ,") from error
    return written


def without_fonts(svg: str) -> str:
    """Without the fonts that Textual's picture would fetch from the web: whoever opens it shall tell nobody. And with
    its blanks, which some programs would leave out at the beginning of a text.
    """
    bare = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return bare.replace("<svg ", '<svg xml:space="preserve" ', 1)
