"""How long a walk may take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from semtrace import allowance as module


@pytest.mark.parametrize(
    ("share", "passed_s", "ran_s"),
    [(1.0, 1.0, 1.0), (0.5, 2.0, 1.0), (0.1, 6.0, 0.6)],
)
def test_allowance_on_a_busy_machine_lasts_until_used_up(
    share: float, passed_s: float, ran_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now_s=100.0)
    times = SimpleNamespace(monotonic=lambda: clock.now_s, thread_time=lambda: clock.now_s * share)
    monkeypatch.setattr(module, "time", times)
    allowance = module.Allowance(1.0)
    while allowance.lasts():
        clock.now_s += 1 / 64
    assert clock.now_s - 100.0 == pytest.approx(passed_s, abs=0.05)
    assert (clock.now_s - 100.0) * share == pytest.approx(ran_s, abs=0.05)
