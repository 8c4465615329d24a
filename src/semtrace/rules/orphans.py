"""orphaned-lock: a lock that a process took with it into its grave."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from semtrace.model import DeadHolder, Finding, LastHolder, Lock, Server, Snapshot
from semtrace.rules.basis import Limits
from semtrace.rules.wording import at_least, holding, label, thread, waiting, waiting_pids
from semtrace.text import age, clean, counted

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
        yield Finding(
            code="orphaned-lock",
            severity="error",
            lock=lock.id,
            name=label(lock),
            pids=waiting_pids(lock),
            title=f"{label(lock)} is locked for ever: whoever held it has ended",
            evidence=(*_reason(lock), *_end(lock, snapshot), *waiting(lock)),
            remedy="The command says what it would do; with --yes it releases the lock"
            f"{', and who waits goes on' if lock.waiters else ''}. What the dead process left half done stays so"
            f"{_torn_message(lock)}.\n"
            f"{release_command(snapshot.server, lock)}",
        )


def _torn_message(lock: Lock) -> str:
    """Of a queue's own locks: they guard a pipe, in which messages lie one behind the other
    (Lib/multiprocessing/connection.py Connection._send_bytes).
    """
    if lock.part_of is None or not (lock.name or "").endswith(("._rlock", "._wlock")):
        return ""
    return (
        ": if it died in the middle of a message, all that is read of this queue from then on is garbage, or never "
        "comes; then only a restart helps"
    )


def seems_orphaned(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """All is proved of it that can be without root's rights."""
    for lock in snapshot.locks:
        if not lock.barred:
            continue
        yield Finding(
            code="orphaned-lock",
            severity="warning",
            lock=lock.id,
            name=label(lock),
            pids=waiting_pids(lock),
            title=f"{label(lock)} is locked, and no process that can be seen holds it: it seems to be so for ever",
            evidence=(*_reason(lock), *_end(lock, snapshot), *waiting(lock)),
            remedy="Root can see all processes, and so whether one of them holds it.\n"
            f'sudo "$(command -v semtrace)" doctor {snapshot.server.pid}',
        )


def lost_unit(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A unit of a BoundedSemaphore that its taker took into its grave: there is one less for ever.

    Where it is not proved it is told only after it has looked so for long: a thread that has just taken one may not
    have counted it yet.
    """
    for lock in snapshot.locks:
        lost = lock.lost
        if lost is None or lock.signal or lock.strays or not (lost.proved or (lost.for_s or 0.0) >= limits.wait_s):
            continue
        some = "a unit" if lost.units == 1 else f"{lost.units} units"
        was = "was" if lost.units == 1 else "were"
        sure = f"{some} of {label(lock)} {was} lost with a process that ended"
        left = (lock.maximum or 0) - lost.units
        yield Finding(
            code="orphaned-lock",
            severity="warning",
            lock=lock.id,
            name=label(lock),
            pids=waiting_pids(lock),
            title=sure if lost.proved else f"it seems that {sure}",
            evidence=(
                *_reason(lock),
                *([] if lost.proved else [f"it looked so at every look for {age(lost.for_s)}"]),
                f"{left} of its {counted(lock.maximum or 0, 'unit')} {'is' if left == 1 else 'are'} left to use",
                *(_by_its_file(lock.dead_holder, snapshot) if lock.dead_holder else []),
                *holding(lock),
                *waiting(lock),
            ),
            remedy="Restart the server to have it whole again, unless another process gives it back for the one that "
            "ended; it cannot be released while others are in use. Take it by `with`: then only a kill loses it.",
        )


def release_command(server: Server, lock: Lock) -> str:
    """By its name where that means one lock alone."""
    unique = lock.name is not None and lock.separate == 1 and lock.name == label(lock)
    return f"semtrace release {server.pid} {shlex.quote(str(lock.name)) if unique else lock.id}"


def _reason(lock: Lock) -> list[str]:
    return [clean(lock.reason)] if lock.reason else []


def _end(lock: Lock, snapshot: Snapshot) -> Iterator[str]:
    """When the holder ended and how, by the surest witness there is: its state file, or the looks before."""
    if lock.dead_holder is not None:
        return _by_its_file(lock.dead_holder, snapshot)
    last = lock.last_holder
    if last is None or last.ended_s is None:  # one that lives had let go
        return _not_seen(lock, snapshot)
    return _last_seen(last, snapshot)


def _by_its_file(dead: DeadHolder, snapshot: Snapshot) -> Iterator[str]:
    """From when on it had the lock is exact; when it ended lies between two looks, or before the first."""
    if dead.alive_s is None or dead.gone_s is None:
        least_s, most_s = None, dead.acquired_s - snapshot.watched_s
        yield f"PID {dead.pid} had ended when the watching began, {age(snapshot.watched_s)} ago"
    else:
        least_s, most_s = dead.acquired_s - dead.alive_s, dead.acquired_s - dead.gone_s
        yield f"PID {dead.pid} was last seen alive {age(dead.alive_s)} ago, and gone {age(dead.gone_s)} ago"
    yield from _how(least_s, most_s, snapshot) or _how_unknown(snapshot)


def _last_seen(last: LastHolder, snapshot: Snapshot) -> Iterator[str]:
    held = f", then{at_least(last.unbroken_s)}" if last.unbroken_s else ""
    if not held and last.held_s:
        held = f", as at every look for {age(last.held_s)} before, in one hold or in several"
    end = f"it was gone {age(last.ended_s)} ago"
    yield f"last seen held by {thread(last.process, last.tid)} {age(last.seen_s)} ago{held}; {end}"
    if last.held_s is None:
        return
    from_its_beginning = last.seen_s + last.held_s < snapshot.watched_s - _BEFORE_S
    timeout_s = _timeout_s(snapshot)
    if timeout_s is not None and last.silent_s is not None and last.silent_s >= _NEARLY * timeout_s:
        yield (
            f"its last heartbeat was {age(last.silent_s)} old then: as long as gunicorn's --timeout ({timeout_s:g} s) "
            "allows: gunicorn most likely killed it"
        )
        return
    yield from _how(last.unbroken_s, last.held_s if from_its_beginning else None, snapshot)


def _how(least_s: float | None, most_s: float | None, snapshot: Snapshot) -> list[str]:
    """By how long it had the lock when it ended: at least so long and at most so long, as far as that is known."""
    timeout_s = _timeout_s(snapshot)
    if timeout_s is None:
        return []
    if least_s is not None and least_s >= _NEARLY * timeout_s:
        return [f"that is as long as gunicorn's --timeout ({timeout_s:g} s) allows: gunicorn most likely killed it"]
    if most_s is not None and most_s < _FAR_LESS * timeout_s:
        return [
            f"that is far less than gunicorn's --timeout ({timeout_s:g} s): most likely something else ended it (kill, "
            "out of memory); gunicorn's log says by which signal"
        ]
    return []


def _how_unknown(snapshot: Snapshot) -> list[str]:
    if snapshot.server.kind != "gunicorn":
        return []
    return [
        "how it ended is not known; gunicorn's log says it beside that PID: WORKER TIMEOUT, or the signal (SIGKILL: "
        '"Perhaps out of memory?")'
    ]


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
