"""Everything that is known about one lock or process, as the labelled lines of a sheet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from semtrace.model import (
    Durations,
    Frame,
    Holder,
    Lock,
    Overlap,
    Problem,
    Process,
    ProcessId,
    SemId,
    Snapshot,
    Statistics,
    ThreadLock,
    Waiter,
)
from semtrace.text import UNKNOWN, age, clean, exact, percent, size
from semtrace.tui.rows import pids, units
from semtrace.tui.sentences import for_so_long, in_whose_hands, names_of
from semtrace.tui.signs import lock_sign, process_sign


class Entry(NamedTuple):
    """A line of a sheet: a label and its value, either may be empty."""

    label: str
    value: str
    style: str = ""


def lock_entries(lock: Lock, snapshot: Snapshot) -> Iterator[Entry]:
    roles = {process.id: process.role for process in snapshot.processes}
    sign = lock_sign(lock.state)
    yield Entry("state", f"{sign.sign} {lock.state}", sign.style)
    yield Entry("", clean(lock.reason or sign.meaning), "dim")
    if lock.in_flux:
        yield Entry("", "it kept changing while it was read", "dim")
    yield Entry("names", ", ".join(map(clean, lock.names)) or clean(lock.name or "not known"))
    yield Entry("kind", lock.kind + (" (a signal: nobody holds it)" if lock.signal else ""))
    if lock.part_of:
        yield Entry("part of", clean(lock.part_of))
    yield Entry("free units", units(lock))
    first = f", the first of {lock.separate}" if lock.separate > 1 else ""
    yield Entry("identity", f"{lock.id}{first}  (device major:minor:inode)")
    yield Entry("/dev/shm", f"{clean(lock.shm_name or 'name not known')}, {'linked' if lock.linked else 'unlinked'}")
    yield from _section("held by", (_holder_entry(holder, roles) for holder in lock.holders), "nobody that is known")
    yield from _section("waiters", _waiter_entries(lock.waiters, roles), "none")
    if lock.statistics is not None:
        yield from _statistics_entries(lock.statistics)
    yield Entry("mapped by", pids(lock.mapped_by) or "none")


def process_entries(process: Process, snapshot: Snapshot) -> Iterator[Entry]:
    locks = {lock.id: lock for lock in snapshot.locks}
    sign = process_sign(process.state)
    started = datetime.fromtimestamp(process.started_at).strftime("%Y-%m-%d %H:%M:%S")
    yield Entry("pid", f"{process.pid}, child of {process.ppid}", "strong")
    yield Entry("role", process.role)
    yield Entry("state", f"{sign.sign} {process.state}", sign.style)
    if sign.meaning:
        yield Entry("", sign.meaning, "dim")
    yield Entry("started", f"{started}, {age(snapshot.taken_at - process.started_at)} ago")
    yield Entry("cpu", f"{percent(process.cpu_percent)} % of a core")
    yield Entry("memory", f"{size(process.rss)} resident")
    yield Entry("threads", str(process.threads))
    yield Entry("heartbeat", _heartbeat(process))
    yield from _section("holds", (_hold_entry(each, process.id, locks) for each in process.holds), "nothing")
    yield from _section("waits for", (_wait_entry(each, process.id, locks) for each in process.waits_on), "nothing")
    for problem in snapshot.problems:
        if problem.process == process.id:
            yield from problem_entries((problem,))


def private_entries(lock: ThreadLock) -> Iterator[Entry]:
    yield Entry("name", clean(lock.name), "strong")
    yield Entry("kind", f"threading {lock.kind}: private to each process, it excludes nobody across them")
    if lock.overlap is not None:
        yield from _overlap_entries(lock.overlap)
    for use in lock.processes:
        yield Entry(str(use.process.pid), "locked" if use.locked else "free", "held" if use.locked else "dim")


def _overlap_entries(overlap: Overlap) -> Iterator[Entry]:
    yield Entry("seen", f"{overlap.most} processes inside at once, in {overlap.times} looks", "warning")
    yield Entry(
        "", f"first at {_clock(overlap.first_at)}, last at {_clock(overlap.last_at)}: {pids(overlap.processes)}"
    )
    yield Entry("", "the fix: multiprocessing.Lock(), made before the fork (gunicorn --preload)", "dim")


def _clock(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s).strftime("%H:%M:%S")


def problem_entries(problems: Sequence[Problem]) -> Iterator[Entry]:
    for problem in problems:
        whose = f"pid {problem.process.pid}" if problem.process else "server"
        yield Entry(whose, f"{clean(problem.what)}: {clean(problem.error)}", "warning")
        if problem.remedy:
            yield Entry("", clean(problem.remedy))


def _section(title: str, entries: Iterable[Entry], nothing: str) -> Iterator[Entry]:
    empty = True
    for entry in entries:
        yield Entry(title if empty else "", entry.value, entry.style)
        empty = False
    if empty:
        yield Entry(title, nothing, "dim")


def _holder_entry(holder: Holder, roles: Mapping[ProcessId, str]) -> Entry:
    thread = f", thread {holder.tid}" if holder.tid is not None else ""
    count = f", {holder.count} times" if holder.count != 1 else ""
    who = f"{roles.get(holder.process, 'process')} {holder.pid}{thread}{count}"
    return Entry(
        "",
        f"{who}{for_so_long(holder.since_s, holder.evidence)}{_site(holder.site)} (seen in {holder.evidence})"
        f"{_stack(holder.stack)}",
        "held",
    )


def _waiter_entries(waiters: Sequence[Waiter], roles: Mapping[ProcessId, str]) -> Iterator[Entry]:
    for place, waiter in enumerate(waiters, 1):
        who = f"{roles.get(waiter.process, 'process')} {waiter.pid}, thread {waiter.tid}"
        since = for_so_long(waiter.for_s, waiter.evidence)
        yield Entry("", f"{place}. {who}{since}{_site(waiter.site)}{_stack(waiter.stack)}", "waiting")


def _hold_entry(each: SemId, process: ProcessId, locks: Mapping[SemId, Lock]) -> Entry:
    lock = locks.get(each)
    mine = [holder for holder in lock.holders if holder.process == process] if lock else []
    times = ",".join(for_so_long(holder.since_s, holder.evidence) for holder in mine)
    return Entry("", f"{names_of((each,), locks)}{times}", "held")


def _wait_entry(each: SemId, process: ProcessId, locks: Mapping[SemId, Lock]) -> Entry:
    lock = locks.get(each)
    mine = [waiter for waiter in lock.waiters if waiter.process == process] if lock else []
    times = ",".join(for_so_long(waiter.for_s, waiter.evidence) for waiter in mine)
    hands = in_whose_hands((each,), locks)
    return Entry("", f"{names_of((each,), locks)}{times}{hands}", "waiting")


def _site(site: str | None) -> str:
    return f" at {clean(site)}" if site else ""


def _statistics_entries(statistics: Statistics) -> Iterator[Entry]:
    counted = f"{statistics.acquired} times, {100 * (statistics.contention or 0.0):.1f} % had to wait"
    yield Entry("acquired", counted + (f", {statistics.failed} times in vain" if statistics.failed else ""))
    yield Entry("wait", _durations(statistics.wait))
    yield Entry("hold", _durations(statistics.hold))
    for place, (site, each) in enumerate(statistics.sites):
        label = "by line" if not place else ""
        yield Entry(label, f"{clean(site)}: {each.acquired} times, held {exact(each.hold.total_s)} in all")
        yield Entry("", f"  held {_durations(each.hold)}", "dim")


def _durations(durations: Durations) -> str:
    if not durations.count:
        return "never"
    spread = [("mean", durations.mean_s), ("p50", durations.p50_s), ("p95", durations.p95_s), ("p99", durations.p99_s)]
    said = [f"{name} {exact(value)}" for name, value in spread if value is not None]
    return ", ".join([*said, f"max {exact(durations.max_s)}"])


def _stack(stack: tuple[Frame, ...] | None) -> str:
    frames = stack or ()
    return "".join(f"\n  {clean(frame.function)} at {clean(frame.file)}:{frame.line}" for frame in frames)


def _heartbeat(process: Process) -> str:
    beat = process.last_heartbeat_s
    return f"{age(beat)} ago" if beat is not None else f"{UNKNOWN} (none seen)"
