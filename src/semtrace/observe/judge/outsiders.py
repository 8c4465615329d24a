"""Processes outside the server that map its semaphores, asked for where it decides whether threads are stuck."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from semtrace.model import SemId
from semtrace.observe.judge.outside import ask_outside
from semtrace.observe.watch.watched import Watched

# How often it is asked again, and how large a part of the time that may take at most.
_EVERY_S = 2.0
_SHARE = 20


class Outsiders:
    """Remember the last answer."""

    def __init__(self) -> None:
        self._known: dict[SemId, tuple[int, ...]] = {}
        self._due_s = 0.0

    def of(self, semaphore: SemId) -> tuple[int, ...] | None:
        """Return the PIDs, those that cannot be read too; None if it was not asked."""
        return self._known.get(semaphore)

    def ask(
        self,
        now_s: float,
        suspects: Collection[SemId],
        mappers: Mapping[SemId, Sequence[Watched]],
        linked: Collection[SemId],
    ) -> bool:
        """Ask now and then, and at once for a new one. Return True if there is an answer that is new."""
        if not suspects:
            self._known.clear()
            return False
        if now_s < self._due_s and self._known.keys() >= set(suspects):
            return False
        began = time.monotonic()
        seen = ask_outside({each: mappers.get(each, ()) for each in suspects}, linked)
        self._known = {each: (*outside.mapped_by, *outside.hidden) for each, outside in seen.items()}
        self._due_s = now_s + max(_EVERY_S, _SHARE * (time.monotonic() - began))
        return True
