"""lock-order: two locks that are taken in both orders, a deadlock that has not happened yet. Only traced locks show it.

Two things stay unknown. Something other than a traced lock may keep the two orders apart: a file lock, a database, a
`threading` lock within one process. And an acquire may have a timeout that never ran out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    Finding,
    FindingCode,
    Lock,
    LockOrder,
    ProcessId,
    Remedy,
    SemId,
    Snapshot,
    TakenInOrder,
    ThreadRef,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import lock_ref
from semtrace.rules.knots import explained

Thread = tuple[ProcessId, int]
Clash = tuple[LockOrder, LockOrder, Thread, Thread]


def lock_order(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield each pair once. A pair that is in a deadlock already is reported as that."""
    orders = snapshot.tracing.orders if snapshot.tracing else ()
    if not orders:
        return
    stuck = explained(snapshot)
    locks = {lock.id: lock for lock in snapshot.locks}
    by_pair: dict[tuple[SemId, SemId], list[LockOrder]] = {}
    for order in orders:
        by_pair.setdefault((order.outer, order.inner), []).append(order)
    for (first, second), there in sorted(by_pair.items()):
        known = [locks[each] for each in (first, second) if each in locks and _keeps_out(locks[each])]
        if first < second and len(known) == 2 and not stuck.intersection((first, second)):
            found = _clash(there, by_pair.get((second, first), []), locks)
            if found is not None:
                yield _finding(known[0], known[1], found)


def _keeps_out(lock: Lock) -> bool:
    return lock.maximum == 1 and not lock.signal


def _clash(there: list[LockOrder], back: list[LockOrder], locks: Mapping[SemId, Lock]) -> Clash | None:
    """Return two orders that may meet: by different threads, without a lock that both hold meanwhile."""
    for one in there:
        for other in back:
            if any(_may_gate(locks.get(gate)) for gate in one.also_held & other.also_held):
                continue
            for mine in one.threads:
                for yours in other.threads:
                    if mine != yours:
                        return one, other, mine, yours
    return None


def _may_gate(lock: Lock | None) -> bool:
    """A semaphore that is known to let several in keeps nobody apart."""
    return lock is None or lock.maximum in (None, 1, SEM_VALUE_MAX)


def _finding(first: Lock, second: Lock, clash: Clash) -> Finding:
    one, other, mine, yours = clash
    return Finding(
        code=FindingCode.LOCK_ORDER,
        severity="warning",
        locks=(lock_ref(first), lock_ref(second)),
        threads=(ThreadRef(*mine), ThreadRef(*yours)),
        facts=(_taken(mine, one, first, second), _taken(yours, other, second, first)),
        remedy=Remedy((Advice.SAME_ORDER_MEETS,)),
    )


def _taken(who: Thread, order: LockOrder, outer: Lock, inner: Lock) -> TakenInOrder:
    return TakenInOrder(ThreadRef(*who), lock_ref(outer), order.outer_site, lock_ref(inner), order.inner_site)
