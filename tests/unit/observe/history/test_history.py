"""What a series of snapshots knows: since when, and how busy."""

from __future__ import annotations

import pytest

from semtrace.linux.process import TICKS_PER_S
from semtrace.model import ProcessId
from semtrace.observe.history.history import CpuMeter, Since

P, Q = ProcessId(11, 1000), ProcessId(12, 1000)


def test_since_starts_at_first_sight_but_is_none_until_later() -> None:
    since: Since[str] = Since()
    since.update(10.0, ["a"])
    assert since.seconds(10.0, "a") is None
    since.update(12.5, ["a", "b"])
    assert since.seconds(12.5, "a") == 2.5
    assert since.seconds(12.5, "b") is None
    assert since.seconds(12.5, "never seen") is None


def test_since_begins_anew_after_an_absence() -> None:
    since: Since[str] = Since()
    since.update(10.0, ["a"])
    since.update(11.0, [])
    since.update(12.0, ["a"])
    since.update(13.0, ["a"])
    assert since.seconds(13.0, "a") == 1.0


def test_cpu_is_unknown_at_first_then_of_the_last_second() -> None:
    meter = CpuMeter()
    assert meter.percent(P, 0.0, 100) is None
    assert meter.percent(P, 0.0, 100) is None
    assert meter.percent(P, 1.0, 100 + TICKS_PER_S // 2) == pytest.approx(50)
    for tenth in range(11, 40):
        shown = meter.percent(P, tenth / 10, 100 + TICKS_PER_S // 2)
    assert shown == 0


def test_cpu_is_never_negative_and_forgets_a_process_that_left() -> None:
    meter = CpuMeter()
    meter.percent(P, 0.0, 100)
    assert meter.percent(P, 1.0, 50) == 0
    meter.keep([Q])
    assert meter.percent(P, 2.0, 50) is None
