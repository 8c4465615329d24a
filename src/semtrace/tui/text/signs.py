"""A sign and a style for every state: all signs of states are in these tables."""

from __future__ import annotations

from typing import NamedTuple

from semtrace.model import LockState
from semtrace.rules.headline import Verdict


class Sign(NamedTuple):
    sign: str
    style: str
    meaning: str


LOCK_SIGNS: dict[LockState, Sign] = {
    "free": Sign("○", "free", "nobody has it"),
    "held": Sign("●", "held", "somebody has it, nobody waits"),
    "contended": Sign("◐", "contended", "somebody has it, others wait for it"),
    "exhausted": Sign("◌", "exhausted", "all units of a counting semaphore are taken"),
    "orphaned": Sign("✖", "orphaned", "locked, and no living process holds it"),
    "unknown": Sign("?", "unknown", "the evidence does not say; Enter shows the reason"),
}

VERDICTS: dict[Verdict, str] = {
    "stuck": "bad",
    "deadlock": "bad",
    "orphaned": "bad",
    "error": "bad",
    "waiting": "warning",
    "warning": "warning",
    "unknown": "warning",
    "ok": "ok",
    "ended": "dim",
}

# The kernel's words, as semtrace.linux.process gives them.
PROCESS_SIGNS: dict[str, Sign] = {
    "running": Sign("▸", "", "on a processor, or ready for one"),
    "sleeping": Sign("·", "dim", "waits for something"),
    "idle": Sign("·", "dim", "waits for something"),
    "disk-sleep": Sign("◇", "warning", "waits for a device; no signal reaches it"),
    "stopped": Sign("■", "bad", "stopped by a signal: what it holds stays held"),
    "tracing-stop": Sign("■", "bad", "stopped by a debugger"),
    "zombie": Sign("✖", "bad", "ended, not yet collected by its parent"),
    "dead": Sign("✖", "bad", "ended"),
}

PAUSED = "⏸"
WARNING = "⚠"
ENDED = "■"
ASCENDING = "▲"
DESCENDING = "▼"
AT_LEAST = "≥"
TIMES = "×"
CYCLE = "↻"


def lock_sign(state: LockState) -> Sign:
    return LOCK_SIGNS[state]


def process_sign(state: str) -> Sign:
    return PROCESS_SIGNS.get(state, Sign("·", "dim", ""))
