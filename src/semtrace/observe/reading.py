"""Reads one semaphore and all claims to it while the server runs on: read, see whether it held still, else read
again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, ProcessId, SemId
from semtrace.observe.verdict import Claim, Reading
from semtrace.observe.watched import Watched

# A lock that is taken and released 100,000 times a second holds still for one of five looks nearly always.
_ATTEMPTS = 5

# More claims than units can be a process that was put off the processor between its post and its decrement: such a one
# goes on after some milliseconds.
_PATIENT_ATTEMPTS = 8
_PAUSE_S = 0.0005


@dataclass(frozen=True, slots=True)
class Made:
    """What the SemLock objects say that never changes."""

    kind: int
    maxvalue: int


def made(semaphore: SemId, mappers: Sequence[Watched]) -> Made | None:
    for watched in mappers:
        for known in watched.objects.get(semaphore, ()):
            return Made(known.kind, known.maxvalue)
    return None


def value_of(semaphore: SemId, mappers: Sequence[Watched]) -> tuple[int, int] | None:
    """Value and an upper bound of the waiters, from the first process that lets its memory be read."""
    for watched in mappers:
        found = watched.read_semaphore(semaphore)
        if found is not None:
            return found
    return None


def claims_on(semaphore: SemId, mappers: Sequence[Watched]) -> tuple[tuple[Claim, ...], tuple[ProcessId, ...]]:
    """The claims of the processes that map it, and those living processes that could not be asked."""
    claims: list[Claim] = []
    blind: list[ProcessId] = []
    for watched in mappers:
        claim = watched.read_claim(semaphore)
        if claim is not None:
            claims.append(claim)
        elif not watched.dying:
            blind.append(watched.id)
    return tuple(claims), tuple(blind)


def read_lock(semaphore: SemId, mappers: Sequence[Watched], how: Made, value: int, waiting: bool) -> Reading:
    """A steady reading if one can be had. `value` was read just before; claims to a free lock are not asked for."""
    read = Reading(value, how.kind, how.maxvalue, waiting=waiting, steady=False)
    previous: Reading | None = None
    for attempt in range(_PATIENT_ATTEMPTS):
        if value >= how.maxvalue:
            return replace(read, value=value, claims=(), blind=(), steady=True)
        claims, blind = claims_on(semaphore, mappers)
        after = value_of(semaphore, mappers)
        if after is None:
            break
        read = replace(read, value=value, claims=claims, blind=blind)
        balance = _balance(how, value, claims)
        if after[0] == value and (balance == 0 or (read == previous and balance < 0)):
            return replace(read, steady=True)
        if attempt >= _ATTEMPTS - 1:
            if balance <= 0:
                break
            time.sleep(_PAUSE_S)
        previous, value = read, after[0]
    return replace(read, steady=read == previous)


def _balance(how: Made, value: int, claims: Sequence[Claim]) -> int:
    """How many units more are claimed than the value says are taken; 0 shows that no change fell into the reading.

    A Semaphore does not say how many it began with: -1, so that two readings must agree.
    """
    if how.maxvalue == SEM_VALUE_MAX or any(c.count < 0 for c in claims):
        return -1
    units = sum(c.count > 0 for c in claims) if how.kind == RECURSIVE_MUTEX else sum(c.count for c in claims)
    return units - (how.maxvalue - value)
