"""long-wait for a Semaphore: it does not keep the number that it began with, so nobody knows whether it is a lock,
which somebody has to give back, or a signal that may come some day. It is told only where more than waiting shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import SEM_VALUE_MAX, Finding, Lock, SemId, Snapshot
from semtrace.rules.basis import Limits, longest_wait, unbroken_wait_s
from semtrace.rules.deadlocks import Wait, cycles, stuck_threads
from semtrace.rules.wording import at_least, label, place_of, thread, waiting, waiting_pids
from semtrace.text import age, counted


def semaphore_wait(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Never an error. Whoever waits for a signal has nobody who took it and ended, and is in no ring of those who took.

    A consumer counts what it took of a signal, too; but its producer then counts below 0, and nobody is a holder.
    """
    semaphores = {lock.id for lock in snapshot.locks if _is_plain_semaphore(lock)}
    if not semaphores:
        return
    for lock in snapshot.locks:
        given = any(stray.count < 0 for stray in lock.strays)
        if lock.id in semaphores and lock.state == "exhausted" and not lock.holders and not given:
            yield from _holder_ended(lock, limits)
    stuck = stuck_threads(snapshot, semaphores=True)
    for cycle in cycles(stuck):
        yield from _ring([stuck[each] for each in cycle], semaphores, limits)


def _is_plain_semaphore(lock: Lock) -> bool:
    return lock.maximum == SEM_VALUE_MAX and not lock.signal and lock.part_of is None


def _holder_ended(lock: Lock, limits: Limits) -> Iterator[Finding]:
    """All units are gone, and the last who was seen to have one ended with it."""
    found = longest_wait(lock, limits.wait_s)
    if found is None or found[0].timed:
        return
    longest, waited_s = found
    last, dead = lock.last_holder, lock.dead_holder
    if dead is not None:
        end = f"PID {dead.pid} took it {age(dead.acquired_s)} ago and ended without giving it back"
    elif last is not None and last.ended_s is not None:
        end = f"{thread(last.process, last.tid)} had it {age(last.seen_s)} ago, and was gone {age(last.ended_s)} ago"
    else:
        return
    yield Finding(
        code="long-wait",
        severity="warning",
        lock=lock.id,
        name=label(lock),
        pids=waiting_pids(lock),
        title=f"{thread(longest.process, longest.tid)} has waited for {label(lock)}"
        f"{at_least(waited_s, longest.evidence)}, and whoever had it has ended",
        evidence=(
            end,
            "a Semaphore does not keep the number it began with; if it is used as a lock, nobody will give it back",
            *waiting(lock),
        ),
        remedy="If it is used as a lock, restart the server, and use a multiprocessing.Lock: then it is known who "
        "holds it. If another process is to give it, that one is late.",
    )


def _ring(cycle: Sequence[Wait], semaphores: set[SemId], limits: Limits) -> Iterator[Finding]:
    """Several who took a unit each and wait for the next one's. Who waits for what it took itself is a consumer."""
    found = [wait.lock for wait in cycle if wait.lock.semaphore in semaphores]
    waited_s = min(wait.waiter.asleep_s or 0.0 for wait in cycle)
    if not found or len(cycle) < 2 or waited_s < limits.wait_s:
        return
    names = ", ".join(wait.lock.name for wait in cycle)
    yield Finding(
        code="long-wait",
        severity="warning",
        lock=found[0].semaphore,
        name=found[0].name,
        pids=tuple(dict.fromkeys(wait.thread[0].pid for wait in cycle)),
        title=f"{len(cycle)} threads have waited for each other{at_least(waited_s)}: {names}",
        evidence=(
            *(_told(wait, cycle[at - 1]) for at, wait in enumerate(cycle)),
            f"{counted(len(found), 'of these is a Semaphore', 'of these are Semaphores')}: another process may still "
            "give a unit; if they are used as locks, nobody will",
        ),
        remedy="If they are used as locks: take them in the same order everywhere, and use multiprocessing.Lock, of "
        "which it is known who holds it. Now: restart the server.",
    )


def _told(wait: Wait, before: Wait) -> str:
    place = place_of(wait.waiter)
    at_place = f", at {place}" if place else ""
    return (
        f"{thread(*wait.thread)} took {before.lock.name} and waits for {wait.lock.name}"
        f"{at_least(unbroken_wait_s(wait.waiter), wait.waiter.evidence)}{at_place}"
    )
