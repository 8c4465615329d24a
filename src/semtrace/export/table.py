"""Holds and waits as CSV: a row each. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from semtrace.export.story import Story, identity
from semtrace.text import clean, iso

_COLUMNS = ("lock", "name", "what", "pid", "tid", "start", "end", "seconds", "exact", "site")
# A spreadsheet would take a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@")


def csv_lines(story: Story) -> Iterator[str]:
    """Yield the lines, the names of the columns first. Times are ISO 8601 in UTC; `exact` is 1 where events tell it,
    else the span is what the samples saw.
    """
    yield _line(_COLUMNS)
    for span in story.spans:
        start, end = span.start + story.offset_s, span.end + story.offset_s
        who = (span.process.pid if span.process else "", span.tid or "")
        what = (identity(span.lock) or "", _text(story.name(span.lock)), span.what)
        times = (iso(start), iso(end), f"{span.end - span.start:.9f}", int(span.exact))
        yield _line((*what, *who, *times, _text(span.site or "")))


def _line(cells: tuple[object, ...]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()


def _text(text: str) -> str:
    text = clean(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
