"""How long a command waits for what is not known yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.snapshots import snapshot

from semtrace import allowance
from semtrace.model import Snapshot
from semtrace.observe import observer as module
from semtrace.observe.observer import settle


class Starved:
    """Imitates an observer with a `share` of a processor: memory is read after `work_s` on it, a proof never ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float, work_s: float) -> None:
        self.now_s, self._share, self._work_s = 0.0, share, work_s
        clock = SimpleNamespace(
            monotonic=lambda: self.now_s, thread_time=lambda: self.now_s * share, sleep=lambda _: None
        )
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(allowance, "time", clock)

    def snapshot(self) -> Snapshot:
        self.now_s += 0.1
        return snapshot()

    def undecided(self) -> bool:
        return True

    def unread(self) -> bool:
        return self.now_s * self._share < self._work_s


@pytest.mark.parametrize(
    ("share", "work_s", "took_s"),
    [(1.0, 0.0, 3.0), (1.0, 100.0, 3.0), (0.5, 2.0, 4.0), (0.5, 100.0, 6.0), (0.01, 100.0, 15.0)],
    ids=["only a proof", "too much", "read in time", "busy, too much", "starved"],
)
def test_memory_is_read_for_as_long_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, share: float, work_s: float, took_s: float
) -> None:
    observer = Starved(monkeypatch, share, work_s)
    settle(observer)  # type: ignore[arg-type]
    assert observer.now_s == pytest.approx(took_s, abs=0.25)
