"""How a process ended, as text. Pure."""

from __future__ import annotations

import signal

from semtrace.model import DeathCause
from semtrace.text import age


def death_text(cause: DeathCause, exit_code: int | None, silent_s: float | None = None) -> str:
    """Return the predicate of a sentence about one process."""
    if cause is DeathCause.TIMEOUT:
        return f"was killed by gunicorn's --timeout: its last heartbeat was {age(silent_s)} old"
    if cause is DeathCause.MEMORY:
        return "was killed by the kernel: its cgroup had no memory left"
    if exit_code is None:
        return "ended; how is unknown"
    perhaps = ", perhaps because of gunicorn's --timeout" if cause is DeathCause.UNKNOWN else ""
    if exit_code < 0:
        return f"was killed by {signal_name(-exit_code)}{perhaps}"
    return f"exited with {exit_code}{perhaps}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
