"""When a walk has to stop, however much the target has to show."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Ends at `deadline` (of time.perf_counter) or after `objects` were looked at; then `reason` says so."""

    deadline: float
    objects: int
    looked_at: int = 0
    reason: str | None = None

    def spent(self) -> bool:
        if self.reason is None:
            if self.looked_at >= self.objects:
                self.reason = f"stopped after {self.looked_at} objects"
            elif time.perf_counter() > self.deadline:
                self.reason = f"out of time after {self.looked_at} objects"
        return self.reason is not None
