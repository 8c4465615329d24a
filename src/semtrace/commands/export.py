"""`semtrace export`: from a recording to a new file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from semtrace.commands.options import Parser, add_range, limits
from semtrace.console.printing import say
from semtrace.errors import EXIT_OK, UsageError
from semtrace.export.chrome import chrome_lines
from semtrace.export.page import page_pieces
from semtrace.export.perfetto import perfetto_pieces
from semtrace.export.story import Story, gather
from semtrace.export.table import csv_lines
from semtrace.linux import safefile
from semtrace.record.moments import Moment
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.record.sink import CannotWrite
from semtrace.rules import Limits
from semtrace.text import counted, size

Maker = Callable[[Story], Iterable[bytes]]


def configure(command: Parser) -> None:
    command.explain(
        "Turns a recording into another format.",
        "semtrace export shop.semrec --to html  one page for a colleague",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording")
    command.add_argument("--to", required=True, choices=("perfetto", "chrome", "csv", "html"), help="the format")
    command.add_argument("-o", dest="out", type=Path, metavar="OUT", help="a new file (default: FILE with another end)")
    add_range(command, "--until")


def run(options: argparse.Namespace) -> int:
    part = options.since, options.until
    say(export(options.file, options.to, options.out, part, limits(options), say))
    return EXIT_OK


def export(
    file: Path,
    to: str,
    out: Path | None,
    part: tuple[Moment | None, Moment | None],
    limits: Limits,
    tell: Callable[[str], object] | None = None,
) -> str:
    """Write the recording, or a part of it, in another format. Return what was done; `tell` gets what is damaged."""
    make, ending = _FORMATS[to]
    out = out or file.with_suffix(ending)
    with Replay(file, limits, tell) as replay:
        story = gather(replay, *part)
        with values_that_no_server_has(file):
            written = _write(out, make(story))
    return f"wrote {counted(len(story.spans), 'hold and wait', 'holds and waits')}, {size(written)}, to {out}"


def _write(out: Path, pieces: Iterable[bytes]) -> int:
    try:
        with safefile.directory(out.absolute().parent, private=False) as directory:
            fd = safefile.create(out.name, directory)
        with open(fd, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
            return stream.tell()
    except FileExistsError:
        raise UsageError(f"{out} is there already", "choose another name with -o, or remove it") from None
    except OSError as error:
        raise CannotWrite(f"cannot write {out}: {error.strerror or os.strerror(error.errno or 0)}", "use -o") from error


def _encoded(lines: Iterable[str]) -> Iterator[bytes]:
    return (f"{line}\n".encode("utf-8", "replace") for line in lines)


_FORMATS: dict[str, tuple[Maker, str]] = {
    "csv": (lambda story: _encoded(csv_lines(story)), ".csv"),
    "chrome": (lambda story: _encoded(chrome_lines(story)), ".json"),
    "perfetto": (perfetto_pieces, ".pftrace"),
    "html": (page_pieces, ".html"),
}
