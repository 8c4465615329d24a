"""Limits at which a walk stops, however much the target has to show."""

from __future__ import annotations

from semtrace.allowance import Allowance


class Budget:
    """A budget that ends with the allowance or after `objects` objects. Then `reason` says so."""

    def __init__(self, seconds: float, objects: int) -> None:
        self._allowance = Allowance(seconds)
        self._objects = objects
        self.looked_at = 0
        self.reason: str | None = None

    def spent(self) -> bool:
        if self.reason is None:
            if self.looked_at >= self._objects:
                self.reason = f"stopped after {self.looked_at} objects"
            elif not self._allowance.lasts():
                self.reason = f"out of time after {self.looked_at} objects"
        return self.reason is not None
