"""orphaned-lock: a lock that a process took with it into its grave."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from semtrace.model import Finding, LastHolder, Lock, Server, Snapshot
from semtrace.rules.basis import Limits
from semtrace.rules.wording import at_least, label, thread, waiting
from semtrace.text import age, clean

# gunicorn sends SIGABRT at its timeout and SIGKILL a second later, and looking sees a lower bound.
_NEARLY = 0.8
_FAR_LESS = 0.5

# A hold that began so long after the watching did was seen from its beginning: its length is known, not a lower bound.
_BEFORE_S = 1.0


def orphaned_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Says nothing that the verdict has not proved."""
    for lock in snapshot.locks:
        if lock.state != "orphaned":
            continue
        dead = lock.last_holder
        yield Finding(
            code="orphaned-lock",
            severity="error",
            lock=lock.id,
            name=label(lock),
            pids=tuple(dict.fromkeys(waiter.pid for waiter in lock.waiters)),
            title=f"{label(lock)} is locked for ever: whoever held it has ended",
            evidence=(
                *([clean(lock.reason)] if lock.reason else []),
                *(_last_seen(dead, snapshot) if dead else _not_seen(lock, snapshot)),
                *waiting(lock),
            ),
            remedy=f"{release_command(snapshot.server, lock)}   says what it would do; with --yes it does it, and the "
            "waiting threads go on. What the dead process left half done stays so.",
        )


def release_command(server: Server, lock: Lock) -> str:
    """By its name where that means one lock alone."""
    unique = lock.name is not None and lock.separate == 1 and lock.name == label(lock)
    return f"semtrace release {server.pid} {shlex.quote(str(lock.name)) if unique else lock.id}"


def _last_seen(last: LastHolder, snapshot: Snapshot) -> Iterator[str]:
    held = f", then{at_least(last.held_s)}" if last.held_s else ""
    end = "it lives, so it had let go" if last.ended_s is None else f"it was gone {age(last.ended_s)} ago"
    yield f"last seen held by {thread(last.process, last.tid)} {age(last.seen_s)} ago{held}; {end}"
    timeout_s = _timeout_s(snapshot)
    if last.ended_s is None or timeout_s is None or last.held_s is None:
        return
    if last.held_s >= _NEARLY * timeout_s:
        yield f"that is as long as gunicorn's --timeout ({timeout_s:g} s) allows: gunicorn most likely killed it"
    elif last.held_s < _FAR_LESS * timeout_s and last.seen_s + last.held_s < snapshot.watched_s - _BEFORE_S:
        yield (
            f"that is far less than gunicorn's --timeout ({timeout_s:g} s): most likely something else ended it (kill, "
            "out of memory); gunicorn's log says by which signal"
        )


def _not_seen(lock: Lock, snapshot: Snapshot) -> Iterator[str]:
    if lock.statistics is None:  # else the lock was traced, and its reason says who died with it
        yield "who held it last was not seen: it ended before the watching began, or between two looks"
    timeout_s = _timeout_s(snapshot)
    if timeout_s is not None:
        yield (
            f"gunicorn kills a worker that does not answer for {timeout_s:g} s (--timeout): if it did, its log "
            "says WORKER TIMEOUT and the PID"
        )


def _timeout_s(snapshot: Snapshot) -> float | None:
    """gunicorn's --timeout, if a holder may have died of it: None where there is none, where the workers' threads hold
    locks while the worker beats (gunicorn/workers/gthread.py), and where the server is younger than it.
    """
    server = snapshot.server
    if server.kind != "gunicorn" or not server.timeout_s or server.worker_class == "gthread":
        return None
    return server.timeout_s if snapshot.taken_at - server.started_at >= server.timeout_s else None
