"""The lines of `semtrace events`."""

from __future__ import annotations

import json

import pytest

from semtrace.model import EventName, ProcessId, SemId, TracedEvent
from semtrace.reports.eventlines import json_lines, text_lines

LONG = "myapp.services.billing.accounts.locks['the one of the books']"


def event(name: str | None, what: EventName = "acquired", pid: int = 11, tid: int = 0, **more: float) -> TracedEvent:
    process = ProcessId(pid, 1)
    measured = {"wait_s": None, "held_s": None, **more}
    return TracedEvent(
        5.0, process, tid or pid, what, SemId(0, 27, 9), name, site="/srv/app.py:7", sequence=1, **measured
    )


EVENTS = [
    event("a"),
    event(LONG, "released", pid=4194303, tid=4194302, held_s=0.001),
    event(None, "wait"),
    event("x" * 30, wait_s=12345.0),
    event("x" * 31, "failed", wait_s=0.1),
]


def test_the_columns_stay_where_they_are_whatever_the_names() -> None:
    lines = list(text_lines([([each], {}) for each in EVENTS], colour=False))
    assert len({line.index("srv/app.py:7") for line in lines}) == 1
    for line, each in zip(lines, EVENTS, strict=True):
        assert line.index(f"  {each.event} ") == lines[0].index("  acquired ")


def test_long_name_shows_its_end_and_json_has_it_all() -> None:
    (line,) = text_lines([([event(LONG)], {})], colour=False)
    assert f"…{LONG[-29:]}  at once" in line
    assert json.loads(next(json_lines([([event(LONG)], {})])))["name"] == LONG


@pytest.mark.parametrize("length", [29, 30])
def test_a_name_that_fits_is_whole(length: int) -> None:
    (line,) = text_lines([([event("y" * length)], {})], colour=False)
    assert "y" * length in line
    assert "…" not in line
