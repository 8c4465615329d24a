"""A line of the screen as plain values: spans of text, each with the names of its styles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"


class Span(NamedTuple):
    """`style` are names of the palette, separated by blanks; the later ones win."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


class Item(NamedTuple):
    """A part of a line that is left out where room is short: the highest `order` goes first, 0 never."""

    order: int
    line: Line


def text_of(line: Iterable[Span]) -> str:
    return "".join([span.text for span in line])


@lru_cache(maxsize=8192)
def cells(text: str) -> int:
    """Return the width of a text. For plain ASCII that is its length, which needs no table."""
    return len(text) if text.isascii() and text.isprintable() else cell_len(text)


def width_of(line: Iterable[Span]) -> int:
    return sum([cells(span.text) for span in line])


def under(line: Line, style: str) -> Line:
    """Return the line with `style` below its own styles, which win in a conflict."""
    return tuple(Span(text, f"{style} {own}") for text, own in line)


def fill(line: Line, width: int, style: str = "") -> Line:
    """The line in exactly `width` cells."""
    missing = width - width_of(line)
    if missing >= 0:
        return (*line, Span(" " * missing, style)) if missing else line
    return _crop(line, width)


def spread(left: Sequence[Item], right: Sequence[Item], width: int, gap: int = 2) -> Line:
    """Items at the left and at the right edge, as many as there is room for."""
    widths = {id(item): width_of(item.line) for item in (*left, *right)}

    def taken(items: Sequence[Item]) -> int:
        return sum([widths[id(item)] for item in items]) + gap * max(len(items) - 1, 0)

    while taken(left) + taken(right) + gap + 2 > width:
        least = max((*left, *right), key=_order, default=None)
        if least is None or least.order == 0:
            break
        left = [item for item in left if item is not least]
        right = [item for item in right if item is not least]
    middle = max(width - taken(left) - taken(right) - 2, gap)
    return fill((Span(" "), *_join(left, gap), Span(" " * middle), *_join(right, gap)), width)


def clip(text: str, width: int) -> str:
    """The beginning of the text."""
    if cells(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + ELLIPSIS if width > 0 else ""


def tail_of(text: str, width: int) -> str:
    """Return the end of a text that is too long, with a cell left for an ellipsis."""
    tail = text[-width:] if width > 0 else ""
    while tail and cells(tail) >= width:
        tail = tail[1:]
    return tail


def clip_start(text: str, width: int) -> str:
    """Return the end of the text, which matters most in a dotted name, cut at a dot if one is near."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    tail = tail_of(text, width)
    dot = tail.find(".")
    if 0 <= dot < len(tail) // 2:
        tail = tail[dot + 1 :]
    return ELLIPSIS + tail


def clip_words(text: str, width: int, separator: str = " ") -> str:
    """Whole words, and how many are left out: `4712 4713 +2`; only their number where not even one has room."""
    if cells(text) <= width:
        return text
    words = text.split(separator)
    for shown in range(len(words) - 1, 0, -1):
        candidate = f"{separator.join(words[:shown])} +{len(words) - shown}"
        if cells(candidate) <= width:
            return candidate
    if len(words) == 1:
        process, slash, _ = text.partition("/")  # of a process and its thread
        return f"{process}{slash}{ELLIPSIS}" if slash and len(process) + 2 <= width else clip_start(text, width)
    more = f" +{len(words) - 1}"
    return clip_start(words[0], width - len(more)) + more if width >= len(more) + 8 else clip(f"({len(words)})", width)


def _crop(line: Line, width: int) -> Line:
    spans: list[Span] = []
    room = width
    for span in line:
        length = cells(span.text)
        if length >= room:
            return (*spans, Span(_exactly(span.text, room), span.style))
        spans.append(span)
        room -= length
    return tuple(spans)


def _exactly(text: str, width: int) -> str:
    return set_cell_size(clip(text, width), width)


def _order(item: Item) -> int:
    return item.order


def _join(items: Sequence[Item], gap: int) -> Line:
    spans: list[Span] = []
    for number, item in enumerate(items):
        if number:
            spans.append(Span(" " * gap))
        spans.extend(item.line)
    return tuple(spans)
