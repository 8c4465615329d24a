"""Known facts about one lock, in the order in which people ask for them: see `lock_entries`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from semtrace.lazydata import replace
from semtrace.model import (
    Death,
    Durations,
    Frame,
    Holder,
    Lock,
    LockedFile,
    ProcessId,
    SemId,
    Snapshot,
    Statistics,
    Waiter,
)
from semtrace.present.files import file_text
from semtrace.reports.stacks import stack_lines
from semtrace.text import age, clean, counted, exact
from semtrace.timelines.spans import Span
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text.attention import AGED_S, age_style
from semtrace.tui.text.entries import NO_STACKS, Stacks, at_site, clock, death_entries, finding_entries, section
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.rows import pids, units
from semtrace.tui.text.sentences import for_age, last_holder_phrase
from semtrace.tui.text.signs import lock_sign
from semtrace.tui.text.spreads import spread_entries
from semtrace.tui.text.timeline_readout import readout

MOST_EVENTS = 8
MOST_FRAMES = 50
MOST_SEEN = 3
NOT_READ = "its stack is not read yet"

Thread = tuple[ProcessId, int | None]


class SeenAcquire(NamedTuple):
    """A line that acquired the lock: the PID last seen there, when that was (CLOCK_MONOTONIC), and how often."""

    frame: Frame
    pid: int
    at_s: float
    times: int


class LockContext(NamedTuple):
    """Data that a sheet adds to its snapshot: stacks, `when` they were read, and the processes `awaited` whose stacks
    are still to come.

    `digits` are the keys of the processes, which stay the same while the sheet is open. `acquired` are the frames in
    which holders acquired the lock, `timeline` has earlier holds, `opens` is the key that opens the frames of
    libraries. `sources` are lines of files that were read for any of its processes. `seen` are earlier lines that
    acquired the lock, the latest first.
    """

    stacks: Stacks = NO_STACKS
    when: str = ""
    awaited: frozenset[ProcessId] = frozenset()
    digits: Mapping[ProcessId, int] | None = None
    libraries: bool = False  # their frames, too
    acquired: Mapping[Thread, Frame] = {}
    timeline: Timeline | None = None
    opens: str = ""
    sources: Mapping[tuple[str, int], str] = {}
    seen: Sequence[SeenAcquire] = ()


NO_CONTEXT = LockContext()


def lock_entries(lock: Lock, snapshot: Snapshot, context: LockContext = NO_CONTEXT) -> Iterator[Entry]:
    """Yield the entries of a lock in the order in which people ask.

    What is wrong? Who holds it, where was it acquired, what does the holder do now? Who waits, and since when? How
    often and how long was it held? What happened last? At the end: what is the lock?
    """
    sign = lock_sign(lock.state)
    held = age_style(max((holder.since_s or 0.0 for holder in lock.holders), default=None))
    yield Entry("state", f"{sign.sign} {lock.state}", held if held and lock.state == "held" else sign.style)
    if snapshot.alive or lock.reason:
        yield Entry("", clean(lock.reason or sign.meaning), "dim")
    if lock.in_flux:
        yield Entry("", "it kept changing while it was read", "dim")
    about = (each for each in snapshot.findings if each.concerns(lock.id) or (each.name and each.name == lock.name))
    yield from finding_entries(about, lock.reason)
    yield from _people_entries(lock, snapshot, context)
    if lock.statistics is not None:
        yield from _statistics_entries(lock.statistics, {holder.site for holder in lock.holders})
    events = list(event_entries(lock.id, snapshot))
    yield from events or _lately_entries(lock.id, snapshot, context.timeline)
    yield Entry("names", ", ".join(map(clean, lock.names)) or clean(lock.name or "not known"))
    if lock.file is not None:
        yield from _file_entries(lock, lock.file)
        return
    yield Entry("kind", lock.kind + (" (a signal: nobody holds it)" if lock.signal else ""))
    if lock.part_of:
        yield Entry("part of", clean(lock.part_of))
    yield Entry("free units", units(lock))
    first = f", the first of {lock.separate}" if lock.separate > 1 else ""
    yield Entry("identity", f"{lock.id}{first}  (device major:minor:inode)")
    yield Entry("/dev/shm", f"{clean(lock.shm_name or 'name not known')}, {'linked' if lock.linked else 'unlinked'}")
    yield Entry("mapped by", pids(lock.mapped_by) or "none")


def event_entries(lock: SemId, snapshot: Snapshot) -> Iterator[Entry]:
    """The last events of the lock, the newest first."""
    tracing = snapshot.tracing
    if tracing is None:
        return
    last = [event for event in tracing.recent if event.lock == lock][: -MOST_EVENTS - 1 : -1]
    for place, event in enumerate(last):
        took = "".join(
            f", {word} {exact(time_s)}" for word, time_s in (("waited", event.wait_s), ("held", event.held_s)) if time_s
        )
        at = clock(snapshot.taken_at - snapshot.monotonic_s + event.t_s, "%H:%M:%S.%f")[:-3]
        text = f"{at}  {event.process.pid} {event.event}{took}{at_site(event.site)}"
        yield Entry("" if place else "last events", text)
    if last and tracing.one_in > 1:
        yield Entry("", f"a sample: one in {tracing.one_in}", "dim")


def _lately_entries(lock: SemId, snapshot: Snapshot, timeline: Timeline | None) -> Iterator[Entry]:
    """Yield the last ended holds that the samples saw, the newest first: for a lock without events."""
    spans: Sequence[Span] = timeline.ended_lately(lock, "held", MOST_EVENTS) if timeline is not None else ()
    for place, span in enumerate(spans):
        assert timeline is not None
        yield Entry("" if place else "held lately", readout(span, snapshot, timeline, what=False))


# ---- who holds it and who waits


def _people_entries(lock: Lock, snapshot: Snapshot, context: LockContext) -> Iterator[Entry]:
    roles = {process.id: process.role for process in snapshot.processes}
    held = [_holder_entry(place, holder, roles, snapshot, context) for place, holder in enumerate(lock.holders, 1)]
    holders, waiters = ("held by", "waiters") if snapshot.alive else ("held then by", "waited then")
    yield from section(holders, held, _no_holder(lock))
    if not any(_acquired(holder, context) for holder in lock.holders):
        yield from _seen_entries(snapshot, context)
    yield from _last_holder_entries(lock, snapshot)
    yield from death_entries("died with it", (each for each in snapshot.deaths if _held_by(each, lock.id)), snapshot)
    yield from section(waiters, _waiter_entries(lock, roles, snapshot, context), "none" if snapshot.alive else "nobody")
    if context.when:
        yield Entry("stacks", context.when, "dim")


def _holder_entry(
    place: int, holder: Holder, roles: Mapping[ProcessId, str], snapshot: Snapshot, context: LockContext
) -> Entry:
    thread = f", thread {holder.tid}" if holder.tid is not None else ""
    count = f", {holder.count} times" if holder.count != 1 else ""
    who = f"{_digit(holder, place, context)} {roles.get(holder.process, 'process')} {holder.pid}{thread}{count}"
    times = f"{for_age(holder.since_s, holder.evidence)}{_since(holder.since_s, holder.evidence, snapshot)}"
    lines = [f"{who}{times} (seen in {holder.evidence})"]
    if acquired := _acquired(holder, context):
        lines.append(f"acquired at {acquired}")
    style = age_style(holder.since_s) or "held"
    return Entry("", "\n   ".join([*lines, *_stack(holder, context, "now ")]), style)


def _acquired(holder: Holder, context: LockContext) -> str:
    """Return where the lock was acquired, with the line of source if it could be read."""
    frame = context.acquired.get((holder.process, holder.tid))
    return clean(holder.site or "") if frame is None else _line(frame)


def _seen_entries(snapshot: Snapshot, context: LockContext) -> Iterator[Entry]:
    """Yield the lines that acquired a lock whose holders change too fast to read their frames."""
    for place, seen in enumerate(context.seen[:MOST_SEEN]):
        ago = age(max(snapshot.monotonic_s - seen.at_s, 0.0))
        times = "once" if seen.times == 1 else f"{seen.times} times"
        yield Entry("" if place else "acquired at", _line(seen.frame))
        yield Entry("", f"   seen {times}, last {ago} ago by {seen.pid}", "dim")


def _line(frame: Frame) -> str:
    function = f" in {clean(frame.function)}" if frame.function else ""
    source = f": {clean(frame.source)}" if frame.source else ""
    return f"{clean(frame.file)}:{frame.line}{function}{source}"


def _waiter_entries(
    lock: Lock, roles: Mapping[ProcessId, str], snapshot: Snapshot, context: LockContext
) -> Iterator[Entry]:
    """Yield the waiters, numbered on from the holders; the longest wait first."""
    patient = sorted(lock.waiters, key=lambda waiter: -(waiter.for_s or 0.0))
    for place, waiter in enumerate(patient, len(lock.holders) + 1):
        who = f"{roles.get(waiter.process, 'process')} {waiter.pid}, thread {waiter.tid}"
        times = f"{for_age(waiter.for_s, waiter.evidence)}{_since(waiter.for_s, waiter.evidence, snapshot)}"
        first = f"{_digit(waiter, place, context)} {who}{times}{at_site(waiter.site)}"
        yield Entry("", "\n   ".join([first, *_stack(waiter, context)]), "waiting")


def _since(seconds: float | None, evidence: str, snapshot: Snapshot) -> str:
    """Add the time of day to what has lasted: samples only know that it was so by then."""
    if seconds is None or seconds < AGED_S:
        return ""
    began = clock(snapshot.taken_at - seconds)
    return f", since {began}" if evidence == "events" else f", since {began} or before"


def _digit(who: Holder | Waiter, place: int, context: LockContext) -> str:
    """Return the key of a process, which stays the same while the sheet is open; without keys its place."""
    return f"{place}." if context.digits is None else f"[{context.digits.get(who.process, place)}]"


def _stack(who: Holder | Waiter, context: LockContext, word: str = "") -> list[str]:
    """Return the stack of its thread; if the thread is not known, that of the process's only thread."""
    stacks = context.stacks
    tid = who.tid
    if tid is None:
        mine = [thread for process, thread in stacks if process == who.process]
        tid = mine[0] if len(mine) == 1 else 0
    stack = stacks.get((who.process, tid), who.stack)
    if stack is None:
        return [NOT_READ] if who.process in context.awaited and not who.site else []
    stack = tuple(_sourced(frame, context.sources) for frame in stack)
    lines = list(stack_lines(stack, context.libraries, context.opens, MOST_FRAMES))
    return [f"{word}{lines[0]}", *lines[1:]] if lines else []


def _sourced(frame: Frame, sources: Mapping[tuple[str, int], str]) -> Frame:
    source = None if frame.source else sources.get((frame.file, frame.line))
    return replace(frame, source=source) if source else frame


def _no_holder(lock: Lock) -> str:
    """Return the text for no known holder.

    A unit of a counting semaphore may be with a process whose count is not seen, also while other units are free.
    """
    if lock.signal or lock.state == "orphaned" or (lock.state == "free" and lock.maximum == 1):
        return "nobody"
    return "nobody that is known"


def _last_holder_entries(lock: Lock, snapshot: Snapshot) -> Iterator[Entry]:
    """Yield the last holder of an orphaned lock, also before there is a finding about it."""
    dead, last = lock.dead_holder, lock.last_holder
    if lock.state == "orphaned" and dead is not None:
        yield Entry("held last by", f"{dead.pid}, which died holding it; it had acquired it {age(dead.acquired_s)} ago")
    elif lock.state == "orphaned" and last is not None:
        yield Entry("held last by", last_holder_phrase(last, snapshot))


def _held_by(death: Death, lock: SemId) -> bool:
    return any(each.lock == lock for each in death.held)


# ---- numbers, and what it is


def _statistics_entries(statistics: Statistics, held_at: Collection[str | None] = ()) -> Iterator[Entry]:
    """`held_at` are the lines at which it is held now: a hold that has not ended is not counted yet."""
    acquired = f"{statistics.acquired} times, {100 * (statistics.contention or 0.0):.1f} % had to wait"
    failed = f"; {counted(statistics.failed, 'attempt')} failed" if statistics.failed else ""
    yield Entry("acquired", f"{acquired}{failed}")
    yield Entry("wait", _durations(statistics.wait))
    yield Entry("hold", _durations(statistics.hold))
    yield from spread_entries(statistics)
    for place, (site, each) in enumerate(statistics.sites):
        label = "by line" if not place else ""
        yield Entry(label, f"{clean(site)}: {each.acquired} times, held {exact(each.hold.total_s)} in all")
        now = "now, for the first time" if site in held_at and not each.hold.count else _durations(each.hold)
        yield Entry("", f"  held {now}", "dim")


def _durations(durations: Durations) -> str:
    if not durations.count:
        return "never"
    spread = [("mean", durations.mean_s), ("p50", durations.p50_s), ("p95", durations.p95_s), ("p99", durations.p99_s)]
    parts = [f"{name} {exact(value)}" for name, value in spread if value is not None]
    return ", ".join([*parts, f"max {exact(durations.max_s)}"])


def _file_entries(lock: Lock, file: LockedFile) -> Iterator[Entry]:
    yield Entry("kind", f"{lock.kind} ({file_text(file)})")
    yield Entry("path", clean(file.path or "not known"))
    yield Entry("identity", f"{lock.id}  (device major:minor:inode)")
    heirs = [claim.process for claim in file.claims if claim.inherited and claim.process is not None]
    if heirs:
        yield Entry("inherited by", pids(heirs))
