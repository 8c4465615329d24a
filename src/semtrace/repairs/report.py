"""A repair as plain text for people. Pure: yields lines."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from semtrace.model import Lock, Waiter
from semtrace.repairs.dead_state_files import SetRight
from semtrace.repairs.leftovers import Found
from semtrace.repairs.repair import GETTING_ON_S, Released
from semtrace.text import age, clean, counted, counted_names, size, table

_FEW = 6


def evidence(lock: Lock) -> Iterator[str]:
    """Explain why it may be released, and what that does."""
    file = f"{clean(lock.shm_name or 'name not known')}, {'linked' if lock.linked else 'unlinked'}"
    yield f"{clean(lock.label)} is orphaned."
    yield f"  {lock.kind} {lock.id}  {file}"
    yield f"  {clean(lock.reason or '')}"
    yield f"  mapped by PID {' '.join(str(pid) for pid in sorted(process.pid for process in lock.mapped_by))}"
    yield from (f"  {_waiter(waiter)} {_waited(waiter)}" for waiter in lock.waiters)
    units = lock.maximum or 1
    lets_in = min(units, len(lock.waiters))
    yield f"Releasing it sets its value from {lock.value} to {units}" + (
        f", so {'the first' if lets_in == 1 else lets_in} of {len(lock.waiters)} waiters can continue."
        if len(lock.waiters) > 1
        else ", so its one waiter can continue."
        if lock.waiters
        else "; nobody waits."
    )
    yield "Nothing else in the server is touched, and none of its processes is stopped."


def not_done(server: int, lock: Lock, audit: str | None) -> Iterator[str]:
    safe = lock.name is not None and lock.name.isprintable() and lock.separate == 1
    unique = lock.name if safe and lock.name else str(lock.id)
    file = f" --audit {shlex.quote(audit)}" if audit else ""
    yield "Nothing was done. To do it:"
    yield f"  semtrace release {server} {shlex.quote(unique)} --yes{file}"


def outcome(released: Released) -> Iterator[str]:
    before, now = released.before, released.now
    waited = counted(len(released.lock.waiters), "thread was", "threads were") + " waiting for it"
    yield (
        f"Released {clean(released.lock.label)}: value {before.value} -> {released.units}; "
        f"{waited if released.lock.waiters else 'nobody waited for it'}."
    )
    if now is None:
        yield "  the server has ended since"
        return
    for waiter in released.got_on:
        yield f"  {_waiter(waiter)} continued{_after(waiter)}"
    for holder in now.holders:
        yield f"  PID {holder.pid} holds it now"
    if released.orphaned_again:
        yield from _orphaned_again(released)
    elif released.lock.waiters and not released.got_on and not now.holders:
        yield f"  no waiter was seen to continue within {GETTING_ON_S:g} s"
        for process in released.ended:
            yield f"  PID {process.pid} has ended since; it may have acquired the lock"
    left = f"{len(now.waiters)} still wait" if now.waiters else "nobody waits"
    yield f"  now: {now.state}, value {'-' if now.value is None else now.value}, {left}"
    yield from map(_set_right, released.set_right)
    if not released.still:
        yield "  some thread ran all the time, so the last sample was a millisecond old when it was released"


def _orphaned_again(released: Released) -> Iterator[str]:
    """The proof shows that each process that took it since the release is dead: one alone that has ended took it."""
    ended = sorted(process.pid for process in released.ended)
    if len(ended) == 1:
        yield f"  PID {ended[0]} acquired it and died at once: the lock is orphaned again"
    elif ended:
        some = " ".join(map(str, ended))
        yield f"  a process acquired it and died at once (ended since: PID {some}): the lock is orphaned again"
    else:
        yield "  a process acquired it and died at once: the lock is orphaned again"
    yield "  find out what ends these processes, then release it once more"


def _set_right(each: SetRight) -> str:
    if each.failed is None:
        return f"  PID {each.process.pid}, which died, is no longer recorded as holding it"
    return f"  note: PID {each.process.pid}, which died, stays recorded as holding it: {each.failed}"


def leftovers(found: Sequence[Found], owner: Callable[[int], str]) -> Iterator[str]:
    """The leftovers with their ages, then how many others there are and why they are none."""
    gone = [each.entry for each in found if each.kept is None]
    if gone:
        rows = [["LEFTOVER", "OWNER", "AGE", "SIZE"]]
        rows += [[clean(entry.name), owner(entry.owner), age(entry.age_s), size(entry.room)] for entry in gone]
        yield from table(rows, "<<>>")
        total = size(sum(entry.room for entry in gone))
        yield f"{counted_names((entry.sort for entry in gone), 'leftover ')}, {total} in all."
        if any(entry.sort == "block" for entry in gone):
            yield "A block may be data that a program left on purpose, for its next start: look before you remove it."
    else:
        yield "No leftover semaphores and no leftover SharedMemory blocks in /dev/shm."
    yield from kept(found)


def kept(found: Sequence[Found]) -> Iterator[str]:
    """Those that are left alone, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.kept is not None:
            reasons.setdefault(each.kept, []).append(clean(each.entry.name))
    for reason, names in reasons.items():
        yield f"Left alone, {reason}: {', '.join(names[:_FEW])}" + (
            f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        )


def _waiter(waiter: Waiter) -> str:
    thread = "" if waiter.tid == waiter.pid else f" thread {waiter.tid}"
    return f"PID {waiter.pid}{thread}"


def _waited(waiter: Waiter) -> str:
    return "waits" if waiter.for_s is None else f"has waited for at least {age(waiter.for_s)}"


def _after(waiter: Waiter) -> str:
    return "" if waiter.for_s is None else f" after at least {age(waiter.for_s)}"
