"""Print a command's lines to stdout, its acts and errors to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator

from semtrace.console import progress
from semtrace.errors import SemtraceError
from semtrace.text import WIDTH, clean, fitted

# What `tailing` and `reports` write where a terminal wants colour (ECMA-48 8.3.117, SGR): no more than these.
_OUR_COLOURS = re.compile(r"(\x1b\[(?:0|1|2|3[1-6]|1;3[1-6])m)")


def lenient() -> None:
    """Show characters that the terminal's encoding lacks as `?`, such as `≥` and `…` in a Latin-1 locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def emit(lines: Iterable[str], flush: bool = False) -> None:
    """Print to stdout. SemtraceError if it takes nothing; BrokenPipeError if nobody reads on."""
    colour = wants_colour()
    for line in lines:
        _write(harmless(line, colour) + "\n", flush)
    _write("", flush=True)


def emit_json(text: str, flush: bool = False) -> None:
    """The same for JSON, which may have several lines."""
    emit(text.split("\n"), flush)


def emit_ascii(blocks: Iterable[str]) -> None:
    """Many lines at once, of which JSON's escapes leave nothing that a terminal would obey."""
    for block in blocks:
        if block:
            assert block.isascii(), "what is not ASCII goes through `emit`"
            _write(block, flush=True)


def harmless(line: str, colour: bool = False) -> str:
    """The line without what a terminal would obey, but for our own colours where they are wanted.

    Names, titles, paths and output are the target's own choice. All that semtrace prints comes through here.
    """
    if line.isprintable():
        return line
    if not colour:
        return clean(line)
    return "".join(part if number % 2 else clean(part) for number, part in enumerate(_OUR_COLOURS.split(line)))


def emit_prose(lines: Iterable[str]) -> None:
    """The same, in lines as wide as the terminal."""
    emit(fitted(lines, width()))


def say(sentence: str) -> None:
    """Print to stderr what was done."""
    pass_on([f"semtrace: {sentence}"])


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Say on stderr what is being done, if that is a terminal and it takes long; erased by whatever is printed next."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    with progress.shown(f"semtrace: {what}", _to_terminal):
        yield


def _to_terminal(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def tell(error: SemtraceError) -> int:
    """Print an error and its remedy; return its exit code. Titles and names in it are the target's own choice: the
    terminal must not obey them.
    """
    what, *more = str(error).split("\n")
    say(what)
    pass_on(more)
    if error.remedy:
        pass_on(f"  {error.remedy}".split("\n"))
    return error.exit_code


def pass_on(lines: Iterable[str]) -> None:
    """Write to stderr. A failure is ignored: it does not change what was done."""
    if sys.stderr is None:
        return
    progress.erase()
    try:
        for line in lines:
            print(harmless(line.replace("\t", "  ")), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is left in the buffer has nowhere to go at exit


def width() -> int:
    """Return the width for text: as the terminal, but not wider than is good to read."""
    from shutil import get_terminal_size  # loads five modules of compression, of which a probe needs none

    return max(40, min(WIDTH, get_terminal_size((WIDTH, 24)).columns))


def wants_colour() -> bool:
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and "NO_COLOR" not in os.environ
        and os.environ.get("TERM") != "dumb"
    )


def _write(text: str, flush: bool) -> None:
    if sys.stdout is None:
        raise SemtraceError("there is no output to write to", "it was closed: give semtrace one")
    progress.erase()
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go at exit
        raise SemtraceError(f"cannot write: {error.strerror}", "is the disk full?") from error
