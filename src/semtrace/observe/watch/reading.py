"""Read one semaphore and all claims to it while the server runs on: read, see whether it held still, else read
again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from semtrace.lazydata import dataclass, replace
from semtrace.model import SEM_VALUE_MAX, ProcessId, SemId
from semtrace.observe.evidence.verdict import Baseline, Claim, Reading, holds, judge, units
from semtrace.observe.watch.watched import Watched

# A lock that is taken and released 100,000 times a second stays the same in one of five samples nearly always.
_ATTEMPTS = 5

# More claims than units can be a process that was put off the processor between its post and its decrement: such a one
# goes on after some milliseconds.
_PATIENT_ATTEMPTS = 8
_PAUSE_S = 0.0005

# Longer than two ticks of the scheduler at 250 a second, after which it has counted the time of a thread that ran all
# along. It is also far longer than the instructions between a post and its decrement take.
_WEIGHING_S = 0.009
_WEIGHINGS = 3
_RAN_NS = 200_000


@dataclass(frozen=True)
class Made:
    """The fields of the SemLock objects that never change."""

    kind: int
    maxvalue: int


def made(semaphore: SemId, mappers: Sequence[Watched]) -> Made | None:
    for watched in mappers:
        for known in watched.objects.get(semaphore, ()):
            return Made(known.kind, known.maxvalue)
    return None


def value_of(semaphore: SemId, mappers: Sequence[Watched]) -> tuple[int, int] | None:
    """Return the value and an upper bound of the waiters, from the first process whose memory can be read."""
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


def at_rest(refresh_s: float, semaphore: SemId, mappers: Sequence[Watched]) -> tuple[Claim, ...] | None:
    """Return the claims that were read in this refresh if no count of any of them says anything, else None.

    They may be some milliseconds old, so they are good for one thing only: a process whose count was 0 held nothing.
    """
    claims = [claim for each in mappers if (claim := each.claims_in(refresh_s).get(semaphore)) is not None]
    return None if any(claim.count for claim in claims) else tuple(claims)


def read_lock(
    semaphore: SemId,
    mappers: Sequence[Watched],
    how: Made,
    value: int,
    waiting: bool,
    baselines: Mapping[ProcessId, Baseline],
) -> Reading:
    """A steady reading if one can be had. `value` was read just before; claims to a free lock are not asked for."""
    read = Reading(value, how.kind, how.maxvalue, waiting=waiting, steady=False)
    weighed: Reading | None = None
    for _ in range(_WEIGHINGS):
        read = _attempt(semaphore, mappers, read, baselines)
        if read.steady or _surplus(read, baselines) <= 0:
            return read
        read = _weigh(semaphore, mappers, read)
        if read.steady and judge(read, baselines).state != "unknown":
            return read
        weighed = read if read.steady else None
    read = _attempt(semaphore, mappers, read, baselines)
    return weighed if weighed and not read.steady else read


def _attempt(
    semaphore: SemId, mappers: Sequence[Watched], read: Reading, baselines: Mapping[ProcessId, Baseline]
) -> Reading:
    """Read until value and claims held still and account for each other; give up after several attempts."""
    previous: Reading | None = None
    value, maxvalue = read.value or 0, read.maxvalue or 0
    for attempt in range(_PATIENT_ATTEMPTS):
        # What was weighed before says nothing of these readings.
        if value >= maxvalue:
            return replace(read, value=value, claims=(), blind=(), steady=True, exact=frozenset())
        claims, blind = claims_on(semaphore, mappers)
        after = value_of(semaphore, mappers)
        if after is None:
            return replace(read, claims=claims, blind=blind, steady=False, exact=frozenset())
        read = replace(read, value=value, claims=claims, blind=blind, steady=False, exact=frozenset())
        same, surplus = after[0] == value, _surplus(read, baselines)
        if same and (surplus == 0 or (read == previous and surplus < 0)):
            return replace(read, steady=True)
        if same and read == previous and _heirs(read, baselines):
            return _with_waiters(semaphore, mappers, read)
        if attempt >= _ATTEMPTS - 1:
            time.sleep(_PAUSE_S)
        previous, value = read, after[0]
    return replace(read, steady=surplus <= 0 and read == previous)


def _surplus(read: Reading, baselines: Mapping[ProcessId, Baseline]) -> int:
    """Return how many more units are claimed than the value says are taken; 0: no change fell into the reading.

    A Semaphore does not say how many it began with: -1, so that two readings must agree.
    """
    if read.maxvalue is None or read.value is None or read.maxvalue == SEM_VALUE_MAX:
        return -1
    if any(c.count < 0 for c in read.claims):
        return -1
    return units(holds(read.claims, read.kind, baselines), read.kind) - (read.maxvalue - read.value)


def _heirs(read: Reading, baselines: Mapping[ProcessId, Baseline]) -> bool:
    """Return True if some claims may be inherited: then no pause shows which is true."""
    return any(not claim.certain for claim in holds(read.claims, read.kind, baselines))


def _claiming(mappers: Sequence[Watched], read: Reading) -> list[Watched]:
    counting = {claim.process for claim in read.claims if claim.count > 0}
    return [watched for watched in mappers if watched.id in counting]


def _with_waiters(semaphore: SemId, mappers: Sequence[Watched], read: Reading) -> Reading:
    all_wait = frozenset(watched.id for watched in _claiming(mappers, read) if watched.activity(semaphore).all_wait)
    same = claims_on(semaphore, mappers)[0] == read.claims  # else a count was still on its way down
    return replace(read, steady=True, all_wait=all_wait if same else frozenset())


def _weigh(semaphore: SemId, mappers: Sequence[Watched], before: Reading) -> Reading:
    """Read once more, after a pause, and find which of too many claims cannot be on their way down.

    Between its post and its decrement a thread runs for well under a microsecond, but it may be off the processor for
    long. So a count is exact if its process slept while it was read, or if it alone of all claimants has run in the
    pause. Then it is past any decrement, and nobody else can have released anything meanwhile.
    """
    claiming = _claiming(mappers, before)
    began = {watched: watched.activity(semaphore) for watched in claiming}
    time.sleep(_WEIGHING_S)
    ended = {watched: watched.activity(semaphore) for watched in claiming}
    claims, blind = claims_on(semaphore, mappers)
    value = value_of(semaphore, mappers)
    last = {watched: watched.activity(semaphore) for watched in claiming}
    same = value is not None and value[0] == before.value and claims == before.claims and blind == before.blind
    ran = [watched for watched in claiming if not last[watched].unchanged_since(began[watched])]
    exact = {watched.id for watched in claiming if last[watched].asleep_since(ended[watched])}
    if len(ran) == 1 and last[ran[0]].ran_since(began[ran[0]]) >= _RAN_NS:
        exact.add(ran[0].id)
    if not same:
        return replace(before, value=value[0] if value else before.value)
    return replace(before, steady=True, exact=frozenset(exact))
