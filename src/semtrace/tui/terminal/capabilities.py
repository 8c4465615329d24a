"""Abilities of the terminal: can it show the live view, and does it keep up?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import IO

from rich.console import Console

from semtrace.tui.terminal.palette import Colours

LEAST_WIDTH = 30
LEAST_HEIGHT = 8
SOME_SIGNS = "●◐✖≥█▏╪"


def unusable_terminal(stdin: IO[str] | None = None, stdout: IO[str] | None = None) -> str | None:
    """Return why the live view cannot run here, as the end of a sentence; None if it can."""
    if not _is_terminal(stdout or sys.stdout):
        return "the output is not a terminal"
    if not _is_terminal(stdin or sys.stdin):
        return "the input is not a terminal"
    term = os.environ.get("TERM", "")
    if not term:
        return "TERM is not set"
    if term in ("dumb", "unknown"):
        return f"the terminal cannot move its cursor (TERM={term})"
    return None


@contextmanager
def drawing_on_the_terminal() -> Iterator[None]:
    """Let Textual draw on stdout if stderr goes to a file: it always draws on stderr (drivers/linux_driver.py).

    Textual asks shutil for the size, which prefers the environment: an exported COLUMNS would outlive a resize.
    Without a terminal, `serve` has set the size for its page.
    """
    if _is_terminal(sys.__stdout__):
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)
    before = sys.__stderr__
    if not _is_terminal(before) and _is_terminal(sys.__stdout__):
        sys.__stderr__ = sys.__stdout__  # type: ignore[misc]
    try:
        yield
    finally:
        sys.__stderr__ = before  # type: ignore[misc]


def colours() -> Colours:
    """Return how many colours the terminal has. With 16 too few of Textual's differ: grey text is grey on grey.

    NO_COLOR is as https://no-color.org defines it; Textual obeys the mere presence of the variable, so do we. Textual
    (8.2.8, app.py) lets Rich find the number of colours, by COLORTERM and the end of TERM; so do we.
    """
    if "NO_COLOR" in os.environ:
        return "none"
    asked = os.environ.get("TEXTUAL_COLOR_SYSTEM", "auto")
    system = Console(file=StringIO(), force_terminal=True, color_system=asked).color_system  # type: ignore[arg-type]
    return "many" if system == "truecolor" else "some" if system == "256" else "few"


def draws_signs() -> bool:
    """Return True if the terminal accepts more than ASCII. A page in a browser always does."""
    stream = sys.__stderr__
    if not _is_terminal(stream):
        return True
    try:
        SOME_SIGNS.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def too_small(width: int, height: int) -> bool:
    return width < LEAST_WIDTH or height < LEAST_HEIGHT


def is_behind(driver: object) -> bool:
    """Return True if earlier output waits for a slow terminal. Then frames are skipped: queues would delay every key.

    `_writer_thread._queue` is private (textual/drivers/_writer_thread.py, 8.2.8): without it no frame is skipped.
    """
    queue = getattr(getattr(driver, "_writer_thread", None), "_queue", None)
    return queue is not None and not queue.empty()


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
