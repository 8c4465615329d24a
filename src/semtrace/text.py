"""Plain text for people: ages, sizes and aligned columns. Pure: nothing is read, nothing is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

from semtrace.model import Lock, NameSort

UNKNOWN = "-"
GAP = "  "
WIDTH = 110


def age(seconds: float | None) -> str:
    """A duration in at most two units: `0.4s`, `12s`, `3m12s`, `2h05m`, `4d07h`; `-` where it was not measured."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        # A clock that was set back makes an age negative: it is then about zero.
        tenths = f"{max(seconds, 0.0):.1f}s"
        return tenths if tenths != "10.0s" else "10s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def exact(seconds: float | None) -> str:
    """A measured duration with three digits, at most seven characters wide: `850ns`, `12.3µs`, `4.05ms`, `1.20s`, then
    as `age`.
    """
    if seconds is None:
        return UNKNOWN
    if seconds <= 0:
        return "0s"
    for unit, factor in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        value = max(seconds, 0.0) * factor
        if value < 999.5 and (unit != "s" or value < 99.95):
            digits = 0 if unit == "ns" or value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f}{unit}"
    return age(seconds)


def size(number: int | None) -> str:
    """Bytes in powers of 1024, at most four characters wide below 10 petabytes: `812B`, `4.5K`, `41M`, `1.2G`."""
    if number is None:
        return UNKNOWN
    if number < 1000:
        return f"{number}B"
    value = float(number)
    for unit in "KMGTP":
        value /= 1024
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}P"


def percent(value: float | None) -> str:
    """A share of one core, without its sign: `0.0`, `9.7`, `100`; `-` where it was not measured."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def iso(epoch_s: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds: `2025-01-31T09:30:00.250Z`."""
    moment = datetime.fromtimestamp(epoch_s, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clean(text: str) -> str:
    """The text without control characters: a process's title is its own choice, the terminal must not obey it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def label(lock: Lock) -> str:
    """One word for the lock; of a part that has no name of its own also of what it is a part."""
    if lock.name is None and lock.part_of is not None:
        return clean(f"{lock.part_of}:{lock.id.inode}")
    return clean(lock.label)


def clip(text: str, width: int) -> str:
    """The text in at most `width` characters; what was cut off shows as `…`."""
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…"


def clip_start(text: str, width: int) -> str:
    """Clip the beginning: the end of a name with dots, or of a path, says more."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def counted(count: int, word: str, plural: str = "") -> str:
    """`1 worker`, `2 workers`, `2 processes`; `plural` where it is another."""
    usual = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count} {word if count == 1 else plural or usual}"


def counted_names(sorts: Iterable[NameSort], kind: str = "") -> str:
    """`1 semaphore and 9 SharedMemory blocks`; `kind` is an adjective for both."""
    listed = list(sorts)
    words: dict[NameSort, str] = {"semaphore": f"{kind}semaphore", "block": f"{kind}SharedMemory block"}
    there = [counted(listed.count(sort), word) for sort, word in words.items() if sort in listed]
    return " and ".join(there) or f"0 {kind}names"


def is_command(line: str) -> bool:
    """Return True for a line of ours that is to be pasted, and so may not be broken."""
    return line.startswith(("semtrace ", "sudo "))


def wrapped(text: str, width: int, first: str, other: str) -> list[str]:
    """The text in lines of at most `width`, unless a single word is longer; `first` and `other` are put before them."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=other,
        break_on_hyphens=False,
        break_long_words=False,
    )


def fitted(lines: Iterable[str], width: int) -> Iterator[str]:
    """The lines, those that are too long in several: all but commands."""
    for line in lines:
        bare = line.lstrip()
        if len(line) <= width or is_command(bare):
            yield line
        else:
            indent = line[: len(line) - len(bare)]
            yield from wrapped(bare, width, indent, indent + GAP)


def table(rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    """The rows as lines in aligned columns, two blanks apart, no blanks at the end.

    `align` has a letter per column: `<` left, `>` right. The last left-aligned column is never padded.
    """
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(align))]
    for row in rows:
        cells = [_pad(cell, width, side) for cell, width, side in zip(row, widths, align, strict=True)]
        yield GAP.join(cells).rstrip()


def _pad(cell: str, width: int, side: str) -> str:
    return cell.rjust(width) if side == ">" else cell.ljust(width)
