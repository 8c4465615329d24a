"""Describe how a process ended. Pure."""

from __future__ import annotations

import signal

from semtrace.model import Death, DeathCause, Lock, Snapshot, Waiter
from semtrace.text import age, clean, counted


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


def left_stuck(death: Death, snapshot: Snapshot) -> list[tuple[Lock, Waiter]]:
    """Return the threads that wait for an orphaned lock which the process held when it was last seen."""
    held = {each.lock for each in death.held}
    return [
        (lock, each) for lock in snapshot.locks if lock.id in held and lock.state == "orphaned" for each in lock.waiters
    ]


def certificate(death: Death, snapshot: Snapshot) -> str:
    """Return how a process ended, and who has been stuck since, as the predicate of a sentence."""
    text = death_text(death.cause, death.exit_code, death.silent_s)
    stuck = left_stuck(death, snapshot)
    if not stuck:
        return text
    names = ", ".join(dict.fromkeys(clean(lock.label) for lock, _ in stuck))
    threads = {(each.process, each.tid) for _, each in stuck}
    return f"{text}; {counted(len(threads), 'thread')} stuck since: {names}"
