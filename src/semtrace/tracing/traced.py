"""Add what traced locks report to a snapshot's locks: exact times, call sites, statistics. Pure.

Memory decides who holds a lock, for it also sees what is not traced. The events add since when and where. They decide
that a process holds a lock only if its memory cannot be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from semtrace.lazydata import dataclass, replace
from semtrace.model import (
    DeadHolder,
    EventName,
    Holder,
    Lock,
    LockOrder,
    LockState,
    Problem,
    ProcessId,
    SemId,
    Statistics,
    TracedEvent,
    Tracing,
    Waiter,
)
from semtrace.text import counted
from semtrace.tracing.events import Event
from semtrace.tracing.folding import Cell
from semtrace.tracing.state import State
from semtrace.tracing.tally import Tally, holding_times, total, waiting_times
from semtrace.wire.event import EventType
from semtrace.wire.statefile import LockBook
from semtrace.wire.words import Flag, Kind

_MOST_SITES = 20
_NOT_BELIEVED = (
    "they speak of other users' processes or locks, or of the future; memory is read all the same, and decides"
)

End = tuple[float, float]
ACTS: Mapping[EventType, EventName] = {
    EventType.WAIT: "wait",
    EventType.ACQUIRED: "acquired",
    EventType.RELEASED: "released",
    EventType.FAILED: "failed",
    EventType.CREATED: "created",
    EventType.FORKED: "forked",
    EventType.EXITING: "exiting",
}


@dataclass(frozen=True)
class Known:
    """The state of one lock: by process the cell of the events and the book of the state file."""

    cells: dict[ProcessId, Cell] = field(default_factory=dict)
    books: dict[ProcessId, LockBook] = field(default_factory=dict)


def refine(
    locks: Sequence[Lock],
    state: State,
    now_ns: int,
    blind: Collection[ProcessId],
    ends: Mapping[ProcessId, End | None] | None = None,
    hidden: Collection[ProcessId] = (),
) -> tuple[Lock, ...]:
    """Return the locks, the traced ones with what they report. `blind` are processes whose memory cannot be read,
    `hidden` those whose mappings are not known either.

    `now_ns` is when memory began to be read. `ends` are of processes that ended meanwhile, how long ago each was last
    seen alive and first found to be gone.
    """
    traced = _by_lock(state)
    return tuple(
        _with_dead_holders(
            _refine(lock, traced[lock.id], state, now_ns, blind, hidden), traced[lock.id], state, now_ns, ends or {}
        )
        if lock.id in traced
        else lock
        for lock in locks
    )


def _by_lock(state: State) -> dict[SemId, Known]:
    found: dict[SemId, Known] = {}
    for (process, lock), cell in state.cells.items():
        found.setdefault(lock, Known()).cells[process] = cell
    for process, file in state.files.items():
        for book in file.locks if file.active else ():
            found.setdefault(book.lock, Known()).books[process] = book
    return found


def _refine(
    lock: Lock, known: Known, state: State, now_ns: int, blind: Collection[ProcessId], hidden: Collection[ProcessId]
) -> Lock:
    cells = known.cells
    sure = {process: cell for process, cell in cells.items() if _is_whole(state, process)}
    holders = [_exact_holder(holder, sure.get(holder.process), state, now_ns) for holder in lock.holders]
    waiters = [_exact_waiter(waiter, sure.get(waiter.process), state, now_ns) for waiter in lock.waiters]
    unseen = {process: cell for process, cell in cells.items() if process in blind and process in state.living}
    holders += _reported_holders(lock, unseen, state, now_ns)
    waiters += _reported_waiters(unseen, state, now_ns)
    name = state.names.get(lock.id)
    refined = replace(
        lock,
        kind=_kind(lock, cells),
        name=lock.name or name,
        names=lock.names or ((name,) if name else ()),
        holders=tuple(holders),
        waiters=tuple(sorted(waiters, key=lambda waiter: -(waiter.for_s or 0.0))),
        statistics=statistics(state, lock.id, known.books.values()),
    )
    return _judged_by_events(refined, known, state, hidden) if unseen else _doubted(refined, known, state)


def _is_whole(state: State, process: ProcessId) -> bool:
    """Return True if no event of that process was lost since its file was read. Else an old hold may still seem to
    last.
    """
    stream = state.streams.get(process)
    return stream is None or stream.whole


def _exact_holder(holder: Holder, cell: Cell | None, state: State, now_ns: int) -> Holder:
    """Return the holder with the times of its oldest hold, as a semaphore may have several; or of the hold that ended
    while memory was being read.
    """
    if cell is None:
        return holder
    since_ns, until_ns, who = cell.ended
    if cell.holds:
        since_ns = min(cell.holds)
        who = cell.holds[since_ns]
    elif until_ns < now_ns:
        return holder
    return replace(
        holder, tid=who >> 32, since_s=_ago(since_ns, now_ns), evidence="events", site=site_of(state, who & 0xFFFFFFFF)
    )


def _exact_waiter(waiter: Waiter, cell: Cell | None, state: State, now_ns: int) -> Waiter:
    known = cell.waits.get(waiter.tid) if cell else None
    if known is None:
        return waiter
    return replace(waiter, for_s=_ago(known[0], now_ns), evidence="events", site=site_of(state, known[1]))


def _reported_holders(lock: Lock, unseen: dict[ProcessId, Cell], state: State, now_ns: int) -> Iterator[Holder]:
    """Yield the holders by the events. For a Lock or RLock it is the last to acquire: the releases of the others are
    late.
    """
    known = {holder.process for holder in lock.holders}
    holding = {process: cell for process, cell in unseen.items() if cell.holds and process not in known}
    if any(cell.kind in (Kind.LOCK, Kind.RLOCK) for cell in holding.values()):
        if known:
            return
        last = max(holding, key=lambda process: max(holding[process].holds))
        holding = {last: holding[last]}
    for process, cell in holding.items():
        since_ns = min(cell.holds)
        who = cell.holds[since_ns]
        count = max(cell.count, len(cell.holds))
        site = site_of(state, who & 0xFFFFFFFF)
        yield Holder(process, who >> 32, count, _ago(since_ns, now_ns), "events", None, site)


def _reported_waiters(unseen: dict[ProcessId, Cell], state: State, now_ns: int) -> Iterator[Waiter]:
    for process, cell in unseen.items():
        for tid, (since_ns, site) in cell.waits.items():
            yield Waiter(process, tid, _ago(since_ns, now_ns), None, "events", site_of(state, site))


def _judged_by_events(lock: Lock, known: Known, state: State, hidden: Collection[ProcessId]) -> Lock:
    """Judge by its events a lock whose processes could not all be read."""
    if lock.state != "unknown" or lock.signal:
        return lock
    if any(holder.evidence == "events" for holder in lock.holders):
        held: LockState = "contended" if lock.waiters else "held"
        return replace(lock, state=held, reason="by its events: the memory of its holder cannot be read", if_ended=None)
    books = [known.books.get(process) for process in {*lock.mapped_by, *hidden}]
    idle = [book and book.steady and not book.since_ns and not book.count and not book.trying for book in books]
    if books and all(idle) and lock.value != 0 and not lock.holders and not _dead_books(known, state):
        return replace(lock, state="free", reason="by its events: memory cannot be read", if_ended=None)
    return lock


def _doubted(lock: Lock, known: Known, state: State) -> Lock:
    """Return it as unknown if memory finds it orphaned while a living process claims by its state file to hold it."""
    claim = [process.pid for process, book in known.books.items() if process in state.living and book.since_ns]
    if lock.state != "orphaned" or not claim:
        return lock
    but = f"but PID {claim[0]}, which traces it, says it holds it"
    return replace(lock, state="unknown", reason=f"{lock.reason}; {but}", orphaned_s=None)


def _with_dead_holders(
    lock: Lock, known: Known, state: State, now_ns: int, ends: Mapping[ProcessId, End | None]
) -> Lock:
    """Return the lock with the dead processes that held it when they died, the first question about an orphan."""
    if lock.state not in ("orphaned", "unknown") and lock.lost is None and not _is_taken_by_nobody(lock, known):
        return lock
    messages = []
    dead: DeadHolder | None = None
    for process, book in _dead_books(known, state):
        where = site_of(state, book.site) or "an unknown line"
        if book.since_ns:
            ago = _ago(book.since_ns, now_ns)
            messages.append(f"PID {process.pid} died holding it, acquired {ago:.1f} s ago at {where}")
            dead = dead or DeadHolder(process, ago, *(ends.get(process) or (None, None)))
        else:
            messages.append(f"PID {process.pid} died while it acquired or released it")
    reason = "; ".join(filter(None, [lock.reason, *messages])) or None
    if_ended = "; ".join([lock.if_ended, *messages]) if lock.if_ended else None
    return replace(
        lock, reason=reason, if_ended=if_ended, dead_holder=dead, last_holder=None if dead else lock.last_holder
    )


def _is_taken_by_nobody(lock: Lock, known: Known) -> bool:
    """A Semaphore without units and holders, that began with some: else it is a signal, which its takers keep."""
    signals = (book.flags & Flag.SIGNAL for book in known.books.values())
    return lock.state == "exhausted" and not lock.holders and not lock.signal and not any(signals)


def _dead_books(known: Known, state: State) -> list[tuple[ProcessId, LockBook]]:
    """Books of dead processes that held the lock, or may have; the last holder first."""
    dead = [(process, book) for process, book in known.books.items() if process not in state.living]
    return sorted(
        ((process, book) for process, book in dead if book.since_ns or book.trying),
        key=lambda each: -(each[1].since_ns or 0),
    )


def _kind(lock: Lock, cells: dict[ProcessId, Cell]) -> str:
    reported = next((cell.kind for cell in cells.values() if cell.kind is not Kind.UNKNOWN), Kind.UNKNOWN)
    return reported.word if lock.kind == "unknown" else lock.kind


# ---- statistics


def statistics(state: State, lock: SemId, books: Iterable[LockBook]) -> Statistics:
    """Counts by the state files, those of ended processes included; quantiles and sites by the events that came."""
    sites = state.tallies.get(lock, {})
    by_site = sorted(sites.items(), key=lambda item: -item[1].hold_total)[:_MOST_SITES]
    named = tuple((site_of(state, site) or "unknown", _statistics(tally, tally)) for site, tally in by_site)
    counts = total(each[lock] for each in (state.retired, state.totals) if lock in each)
    for book in books:
        counts.add(book)
    return replace(_statistics(counts, total(sites.values())), sites=named)


def _statistics(counts: Tally, spread: Tally) -> Statistics:
    return Statistics(
        acquired=counts.acquired,
        contended=counts.contended,
        failed=counts.failed,
        wait=waiting_times(counts, spread),
        hold=holding_times(counts, spread),
    )


# ---- refused reports


def problems(state: State) -> tuple[Problem, ...]:
    """Count the refused reports of traced locks, for they may hide the truth."""
    found = []
    if state.refused.files:
        found.append(("read all state files", f"{counted(state.refused.files, 'file')} not believed"))
    if state.refused.events:
        found.append(("take in all events", f"{counted(state.refused.events, 'event')} not believed"))
    return tuple(Problem(f"{what} of traced locks", why, _NOT_BELIEVED) for what, why in found)


# ---- events


def tracing(state: State, now_ns: int, live: bool, names: Mapping[SemId, str]) -> Tracing:
    """Return the recent events and statistics. `names` are names from the source, which replace the locks' own."""
    recent = tuple(traced_event(event, state, names) for event in state.recent)
    rate = state.flow.rate_at(now_ns)
    one_in = state.flow.one_in if rate else 1
    return Tracing(live, recent, one_in, rate, state.received, state.lost, tuple(_orders(state)))


def _orders(state: State) -> Iterator[LockOrder]:
    """Yield the pairs of locks that are taken in both orders. A line that once gave up is left out: it has a timeout or
    does not wait, and so cannot deadlock. Lines are known once the files were read.
    """
    pairs = {(each.outer, each.inner) for each in state.nestings}
    for each, threads in state.nestings.items():
        tally = state.tallies.get(each.inner, {}).get(each.inner_site)
        outer_site, inner_site = (_site_text(state, site) for site in (each.outer_site, each.inner_site))
        if (each.inner, each.outer) not in pairs or (tally and tally.failed) or not outer_site or not inner_site:
            continue
        yield LockOrder(each.outer, each.inner, outer_site, inner_site, threads, each.also_held)


def _site_text(state: State, site: int) -> str | None:
    return site_of(state, site) if site else "an unknown line"


def traced_event(event: Event, state: State, names: Mapping[SemId, str]) -> TracedEvent:
    origin, measured = event.origin, event.measured_ns
    seconds = None if measured is None else measured / 1e9
    return TracedEvent(
        t_s=event.time_ns / 1e9,
        process=origin.process,
        tid=event.tid,
        event=ACTS[origin.type],
        lock=origin.lock,
        name=names.get(origin.lock) or state.names.get(origin.lock) if origin.lock else None,
        wait_s=seconds if origin.type in (EventType.ACQUIRED, EventType.FAILED) else None,
        held_s=seconds if origin.type is EventType.RELEASED else None,
        site=site_of(state, event.site),
        sequence=event.sequence,
    )


def site_of(state: State, site: int) -> str | None:
    found = state.sites.get(site)
    return str(found) if found else None


def _ago(then_ns: int, now_ns: int) -> float:
    return max(now_ns - then_ns, 0) / 1e9
