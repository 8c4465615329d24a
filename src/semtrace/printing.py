"""What a command prints: its lines to stdout, what it did and what went wrong to stderr."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable

from semtrace.errors import SemtraceError
from semtrace.text import WIDTH, clean_lines, fitted


def lenient() -> None:
    """What the terminal's encoding does not have shows as `?`: `≥` and `…` in that of a Latin-1 locale, say."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def emit(lines: Iterable[str], flush: bool = False) -> None:
    """To stdout. SemtraceError if it takes nothing; BrokenPipeError if nobody reads on."""
    for line in lines:
        _write(line + "\n", flush)
    _write("", flush=True)


def emit_prose(lines: Iterable[str]) -> None:
    """The same, in lines as wide as the terminal."""
    emit(fitted(lines, width()))


def say(sentence: str) -> None:
    """What was done, to stderr."""
    pass_on([f"semtrace: {sentence}"])


def tell(error: SemtraceError) -> int:
    """What went wrong and what would help; returns its exit code. Titles and names in it are the target's own choice:
    the terminal must not obey them."""
    say(_plain(str(error)))
    if error.remedy:
        pass_on([f"  {_plain(error.remedy)}"])
    return error.exit_code


def pass_on(lines: Iterable[str]) -> None:
    """To stderr as they are. What it does not take is lost: that changes nothing of what was done."""
    if sys.stderr is None:
        return
    try:
        for line in lines:
            print(line, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is left in the buffer has nowhere to go at exit


def width() -> int:
    """How wide text may be: as the terminal, and not wider than is good to read."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def wants_colour() -> bool:
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and "NO_COLOR" not in os.environ
        and os.environ.get("TERM") != "dumb"
    )


def _plain(text: str) -> str:
    return clean_lines(text.replace("\t", "  "))


def _write(text: str, flush: bool) -> None:
    if sys.stdout is None:
        raise SemtraceError("there is no output to write to", "it was closed: give semtrace one")
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go at exit
        raise SemtraceError(f"cannot write: {error.strerror}", "is the disk full?") from error
