"""deadlock: threads that wait for each other, each for a lock that the next one holds; or one for its own.

The locks are multiprocessing's, and `threading` locks whose holder is proved. It is an error where none can go on, a
warning where that depends on what only the program knows: whether another process means to release a Lock for its
taker, as of a gate or a baton. An RLock forbids that, and who is inside `with` a Lock will release it itself.

- One that waits for the Lock it took: an error if it is inside `with` it, or if every process that could release it is
  stuck as well. By bare acquire() it looks the same as waiting at a gate: a warning.
- Several in a ring: an error, for each of them was given what it holds and asks for what another has, which gates and
  batons do not come to by themselves. Where the program was ever seen to release Locks for others: a warning.
- Where a process has several threads, which of them took a Lock is no more than who asked for it: a thread of a pool
  acquires for another, that releases it (asyncio.to_thread). Without `with` it takes a long wait, and is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semtrace.model import (
    SEM_VALUE_MAX,
    Finding,
    Holder,
    Lock,
    ProcessId,
    SemId,
    Server,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    Waiter,
)
from semtrace.rules.basis import Limits, unbroken_wait_s
from semtrace.rules.wording import at_least, label, pids, place_of, thread
from semtrace.text import age, clean, counted

# All of them asleep without a break for so long: then the claims that were read meanwhile were true at one time.
ASLEEP_S = 1.0
LOOSE_S = 10.0

Thread = tuple[ProcessId, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A lock of either kind: `semaphore` is None of a `threading` lock, which is one process's own. `bound`: its holder
    alone can release it, or surely means to. `loose`: which thread of the holding process means to is not known.
    `outsiders` are processes outside the server that may release it.
    """

    name: str
    semaphore: SemId | None
    mapped_by: tuple[ProcessId, ...]
    bound: bool
    loose: bool = False
    outsiders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """One thread, what it waits for, and the threads that hold that."""

    thread: Thread
    lock: _Wanted
    waiter: Waiter
    holders: tuple[Thread, ...]


def deadlock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    stuck = stuck_threads(snapshot)
    handed = _handed_over(snapshot)
    for cycle in cycles(stuck):
        waits = [stuck[each] for each in cycle]
        doubt = _doubt_of_one(waits[0], stuck, snapshot) if len(waits) == 1 else _doubt_of_ring(waits, handed)
        yield _finding(waits, stuck, snapshot.server, doubt)


def _doubt_of_one(wait: Wait, stuck: Mapping[Thread, Wait], snapshot: Snapshot) -> list[str]:
    """Why a thread that waits for its own lock may go on; nothing where it cannot."""
    single = {process.id for process in snapshot.processes if process.threads == 1}
    able = [each for each in wait.lock.mapped_by if each not in single or (each, each.pid) not in stuck]
    blind = any(problem.process for problem in snapshot.problems)
    if wait.lock.bound or not (able or blind or wait.lock.outsiders):
        return []
    others = [*(each.pid for each in able if each != wait.thread[0]), *wait.lock.outsiders]
    own = ["another thread of it"] if wait.lock.loose else []
    who = " or ".join([*own, *([pids(others)] if others else [])]) or "a process that cannot be read"
    return [
        f"it is not seen to be inside `with` it, and {who} could release it: so it may be a gate, still to be opened"
    ]


def _doubt_of_ring(cycle: Sequence[Wait], handed: Sequence[Lock]) -> list[str]:
    """The same of several: the program may be one that hands Locks from process to process, or thread to thread."""
    if loose := next((wait.lock for wait in cycle if wait.lock.loose), None):
        return [f"no thread is seen to be inside `with` {loose.name}, so another thread of that process may release it"]
    if outside := next((wait.lock for wait in cycle if wait.lock.outsiders and not wait.lock.bound), None):
        return [f"{pids(outside.outsiders)}, outside this server, may release {outside.name}"]
    if not handed or all(wait.lock.bound for wait in cycle):
        return []
    names = ", ".join(label(lock) for lock in handed[:2])
    return [f"this program releases Locks in other processes than took them ({names}), so another may do so with these"]


def _handed_over(snapshot: Snapshot) -> list[Lock]:
    """The Locks that were seen to be released for another."""
    locks = (lock for lock in snapshot.locks if lock.maximum == 1 and not lock.signal)
    return [lock for lock in locks if any(stray.count < 0 for stray in lock.strays)]


def deadlocked(snapshot: Snapshot) -> set[SemId]:
    """The ids of the locks that such threads wait for."""
    return {wait.lock.semaphore for wait in stuck_threads(snapshot).values() if wait.lock.semaphore is not None}


def stuck_threads(snapshot: Snapshot, semaphores: bool = False) -> dict[Thread, Wait]:
    """The threads that can go on only if another of them does: of all that wait, those are left out, again and again,
    that wait for a lock with a holder who may go on. With `semaphores` a Semaphore without units is taken for a lock.
    """
    single = {process.id for process in snapshot.processes if process.threads == 1}
    waits = {wait.thread: wait for lock in snapshot.locks for wait in _waits(lock, single, semaphores)}
    for private in snapshot.thread_locks:
        waits.update((wait.thread, wait) for use in private.processes for wait in _private_waits(private, use))
    while True:
        left = {thread: wait for thread, wait in waits.items() if all(holder in waits for holder in wait.holders)}
        if len(left) == len(waits):
            return left
        waits = left


def _waits(lock: Lock, single: set[ProcessId], semaphores: bool) -> Iterator[Wait]:
    """The waits for a lock that may be without end; none where its holders are not known to the thread."""
    holders = [_thread_of(holder, single) if holder.certain else None for holder in lock.holders]
    known = [holder for holder in holders if holder is not None]
    if not holders or len(known) < len(holders) or not _accounts_for_all(lock, semaphores):
        return
    bound = lock.kind == "RLock" or all(holder.within for holder in lock.holders)
    loose = not bound and any(holder.process not in single for holder in lock.holders)
    wanted = _Wanted(label(lock), lock.id, lock.mapped_by, bound, loose, lock.outsiders or ())
    for waiter in lock.waiters:
        if _is_endless(waiter, LOOSE_S if loose else ASLEEP_S):
            yield Wait((waiter.process, waiter.tid), wanted, waiter, tuple(known))


def _private_waits(lock: ThreadLock, use: ThreadLockUse) -> Iterator[Wait]:
    """Those in one process for its own copy of a `threading` lock."""
    if use.holder is None or use.holder.tid is None:
        return
    wanted = _Wanted(clean(lock.name), None, (use.process,), bound=True)
    for waiter in use.waiters or ():
        if _is_endless(waiter):
            yield Wait((waiter.process, waiter.tid), wanted, waiter, ((use.process, use.holder.tid),))


def _is_endless(waiter: Waiter, least_s: float = ASLEEP_S) -> bool:
    return not waiter.timed and (waiter.asleep_s or 0.0) >= least_s


def _thread_of(holder: Holder, single: set[ProcessId]) -> Thread | None:
    if holder.tid is not None:
        return holder.process, holder.tid
    return (holder.process, holder.pid) if holder.process in single else None


def _accounts_for_all(lock: Lock, semaphores: bool) -> bool:
    """True if nobody but the holders can give a unit back, as far as counts show it."""
    if lock.signal or lock.strays or lock.in_flux or lock.maximum is None or lock.value != 0:
        return False
    if lock.maximum == SEM_VALUE_MAX:
        return semaphores and lock.part_of is None
    if lock.maximum == 1:
        return len(lock.holders) == 1  # the count of an RLock is its depth
    return sum(holder.count for holder in lock.holders) == lock.maximum


def cycles(stuck: Mapping[Thread, Wait]) -> Iterator[list[Thread]]:
    """Each cycle once. Every stuck thread leads into one; most of them only wait behind it."""
    done: set[Thread] = set()
    for start in sorted(stuck):
        path: list[Thread] = []
        at = start
        while at not in done and at not in path:
            path.append(at)
            at = stuck[at].holders[0]
        if at in path:
            yield path[path.index(at) :]
        done.update(path)


def _finding(cycle: Sequence[Wait], stuck: Mapping[Thread, Wait], server: Server, doubt: list[str]) -> Finding:
    locks = [wait.lock for wait in cycle]
    members = {wait.thread for wait in cycle}
    behind = [wait for thread_, wait in sorted(stuck.items()) if thread_ not in members and wait.lock in locks]
    slept = min(wait.waiter.asleep_s or 0.0 for wait in cycle)
    again = len(cycle) == 1
    who = "it has not" if again else "none of them has"
    end = doubt or ["it cannot go on" if again else "none can go on before another does"]
    return Finding(
        code="deadlock",
        severity="warning" if doubt else "error",
        lock=next((lock.semaphore for lock in locks if lock.semaphore is not None), None),
        name=next((lock.name for lock in locks if lock.semaphore is not None), locks[0].name),
        pids=tuple(dict.fromkeys(wait.thread[0].pid for wait in (*cycle, *behind))),
        title=_title(cycle, bool(doubt)),
        evidence=(
            *_chain(cycle, bool(doubt)),
            f"{who} run for {age(slept)}: {end[0]}",
            *(_behind(behind, again) if behind else []),
        ),
        remedy=_remedy(again, locks, server, bool(doubt)),
    )


def _title(cycle: Sequence[Wait], doubtful: bool) -> str:
    if len(cycle) == 1:
        (wait,) = cycle
        if doubtful:
            return (
                f"{thread(*wait.thread)} waits for {wait.lock.name}, which it took itself; unless another releases it, "
                "it waits for ever"
            )
        return f"{thread(*wait.thread)} waits for {wait.lock.name}, which it holds itself"
    names = ", ".join(wait.lock.name for wait in cycle)
    unless = "; unless another releases one of these, for ever" if doubtful else ""
    return f"{len(cycle)} threads wait for each other: {names}{unless}"


def _chain(cycle: Sequence[Wait], doubtful: bool) -> Iterator[str]:
    has = "took" if doubtful else "holds"
    for at, wait in enumerate(cycle):
        before = cycle[at - 1].lock
        what = "it" if wait.lock == before else _called(wait.lock)
        since = at_least(unbroken_wait_s(wait.waiter), wait.waiter.evidence)
        place = place_of(wait.waiter)
        at_place = f", at {place}" if place else ""
        yield f"{thread(*wait.thread)} {has} {_called(before)} and waits for {what}{since}{at_place}"


def _behind(behind: Sequence[Wait], again: bool) -> list[str]:
    return [f"{counted(len(behind), 'more thread waits', 'more threads wait')} behind {'it' if again else 'them'}"]


def _called(lock: _Wanted) -> str:
    return lock.name if lock.semaphore is not None else f"{lock.name} (a threading lock)"


def _remedy(again: bool, locks: Sequence[_Wanted], server: Server, doubtful: bool) -> str:
    shared = any(lock.semaphore is not None for lock in locks)
    cure = _cure_of_reentry(shared, server) if again else "Take the locks in the same order everywhere."
    if doubtful:
        keep_out = f"{cure[0].lower()}{cure[1:]}"
        well = "If another thread or process is still to release it, all is well."
        return f"{well} If it is used to keep others out: {keep_out}"
    if not shared:
        return f"{cure} Now: restart that process; it takes no other's lock with it."
    return f"{cure} Now: restart the server, for a worker that is killed may leave its lock locked behind."


def _cure_of_reentry(shared: bool, server: Server) -> str:
    """To an RLock all greenlets of a process are one thread: it lets the second in while the first is inside."""
    kind = server.worker_class
    greenlets = kind is not None and ("gevent" in kind or "eventlet" in kind)
    if greenlets:
        return (
            "Hold it over nothing that lets another greenlet run, and take it only once on the way. An RLock is no "
            "cure here: to it all greenlets of a worker are one thread, so it lets them in together."
        )
    unless = " (not under gevent or eventlet: to it all greenlets are one thread)" if kind is None else ""
    return (
        f"Use {'a multiprocessing.RLock' if shared else 'a threading.RLock'}{unless}, or take it only once on the way."
    )
