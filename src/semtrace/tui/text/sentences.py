"""Sentences about the selected row, for the line under the panes, and about an empty pane. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len

from semtrace.model import (
    ChildEnded,
    EndedChild,
    Holder,
    LastHolder,
    Lock,
    Problem,
    Process,
    SemId,
    Snapshot,
    Target,
    ThreadLock,
    Wait,
)
from semtrace.present.facts import fact_lines
from semtrace.present.waits import target_text
from semtrace.text import age, clean
from semtrace.tui.text.line import clip, clip_words
from semtrace.tui.text.marks import stuck_processes
from semtrace.tui.text.rows import Shown, counted_pids, held_by, label, pids, since, waited_for, wanted_holds
from semtrace.waits.workers import waits_by_process


def lock_sentence(lock: Lock) -> str:
    name = label(lock)
    if lock.separate > 1:
        return f"{name}: {clean(lock.reason or '')}.{_queue(lock)}"
    if lock.state == "orphaned":
        if lock.dead_holder is not None:
            return f"{name} is locked: {lock.dead_holder.pid} died holding it.{_queue(lock)}"
        if lock.last_holder is not None:
            return f"{name}: no living process holds it; {lock.last_holder.pid} did last.{_queue(lock)}"
        return f"{name} is locked, and no living process holds it.{_queue(lock)}"
    if lock.state == "unknown":
        return f"{name}: {clean(lock.reason or 'it is not known who holds it')}.{_queue(lock)}"
    if not lock.holders:
        return f"{name} is {lock.state}.{_queue(lock)}"
    holders = ", ".join(_holder_phrase(holder) for holder in lock.holders)
    doubt = f" ({clean(lock.reason)})" if lock.reason and len(lock.sure_holders) < len(lock.holders) else ""
    return f"{name} is held by {holders}{doubt}.{_queue(lock)}"


def process_sentence(process: Process, snapshot: Snapshot) -> str:
    locks = {lock.id: lock for lock in snapshot.locks}
    waits = waits_by_process(snapshot.waits).get(process.id, [])
    who = f"{process.role} {process.pid}"
    does = []
    held = [*(name_of(each, locks) for each in process.holds), *wanted_holds(snapshot.waits).get(process.id, ())]
    if held:
        does.append(f"holds {', '.join(held)}")
    if waits:
        does.append(f"waits for {', '.join(waited_for(waits))}{holder_phrase(waits, locks)}")
    if not does:
        return f"{who} holds no lock and waits for none."
    return f"{'STUCK: ' if process.id in stuck_processes(snapshot) else ''}{who} {' and '.join(does)}."


def ended_sentence(child: EndedChild) -> str:
    (ended,) = fact_lines(ChildEnded(child.id, child.parent, child.exit_code, child.ended_s))
    return f"{ended}; its parent has not reaped it."


def private_sentence(lock: ThreadLock, snapshot: Snapshot) -> str:
    locked = [use.process for use in lock.processes if use.locked]
    waiting = [wait for wait in _private(snapshot) if wait.target.name == lock.name]
    if lock.overlap is not None:
        at_once = pids(lock.overlap.processes)
        return f"{clean(lock.name)} excludes nobody: {lock.overlap.most} processes were inside at once, last {at_once}."
    return (
        f"{clean(lock.name)} is a threading {lock.kind}: each of {len(lock.processes)} processes has its own"
        + (f"; locked now in {pids(locked)}." if locked else "; locked in none.")
        + _waiting(waiting)
    )


def nameless_sentence(target: Target, snapshot: Snapshot) -> str:
    """Return a sentence about the waiters of a private lock or signal without a name; nothing without waiters."""
    waiting = [wait for wait in _private(snapshot) if wait.target == target]
    if not waiting or target.process is None:
        return ""
    stuck = any(wait.thread in snapshot.waits.stuck for wait in waiting)
    return f"{'STUCK: ' if stuck else ''}{target_text(target)}, within {target.process.pid} only.{_waiting(waiting)}"


def _private(snapshot: Snapshot) -> Iterator[Wait]:
    for wait in snapshot.waits.waits:
        if not wait.idle and wait.target.semaphore is None and wait.target.process is not None:
            yield wait


def _waiting(waits: Sequence[Wait]) -> str:
    if not waits:
        return ""
    verb = "waits" if len(waits) == 1 else "wait"
    return f" {len(waits)} {verb}: {counted_pids(wait.thread.process for wait in waits)}."


def last_holder_phrase(last: LastHolder, snapshot: Snapshot) -> str:
    """Name the last holder: its PID, when and how long it held the lock, and when it was found to be gone."""
    thread = f" (thread {last.tid})" if last.tid not in (None, last.pid) else ""
    at = datetime.fromtimestamp(snapshot.taken_at - last.seen_s).strftime("%H:%M:%S")
    held = f", then for {since(last.held_s)}" if last.held_s else ""
    end = "" if last.ended_s is None else f"; it was gone {age(last.ended_s)} ago"
    return f"{last.pid}{thread}, seen so at {at}, {age(last.seen_s)} ago{held}{end}"


def no_locks(snapshot: Snapshot, shown: Shown) -> list[str]:
    """Return why the pane of locks is empty."""
    if shown.hidden:
        return [f"Only {shown.hidden} signals inside Conditions, Events and Queues: a shows them."]
    if snapshot.problems:
        return list(_grouped(snapshot.problems))
    if not snapshot.alive:
        return ["No semaphores were mapped when it ended."]
    return [
        "No semaphores mapped yet: no multiprocessing Lock, Semaphore, Queue … was made in these processes.",
        "A threading.Lock does not show here: it is private to its process.",
    ]


def shortened(sentence: str, width: int) -> str:
    """Return the sentence in that width, with as many PIDs of a list at its end as there is room for."""
    if cell_len(sentence) <= width:
        return sentence
    lead, _, listed = sentence.rpartition(": ")
    room = width - cell_len(lead) - 3
    if lead and all(word[:1].isdigit() for word in listed.split()):
        fitting = clip_words(listed.rstrip("."), max(room, 0))
        return f"{lead}: {fitting}." if fitting[:1].isdigit() else clip(f"{lead}.", width)
    return clip(sentence, width)


def names_of(ids: Iterable[SemId], locks: Mapping[SemId, Lock]) -> str:
    return ", ".join(name_of(each, locks) for each in ids)


def name_of(semaphore: SemId, locks: Mapping[SemId, Lock]) -> str:
    return label(locks[semaphore]) if semaphore in locks else str(semaphore)


def holder_phrase(waits: Iterable[Wait], locks: Mapping[SemId, Lock]) -> str:
    """Name those who hold what is waited for, as far as they are known."""
    holders: set[int] = set()
    for wait in waits:
        lock = locks.get(wait.target.semaphore) if wait.target.semaphore else None
        if lock is not None:
            holders.update(holder.pid for holder in lock.holders)
        else:
            holders.update(thread.process.pid for thread in wait.holders or ())
    return f" (held by {', '.join(map(str, sorted(holders)))})" if holders else ""


def for_age(seconds: float | None, evidence: str = "memory") -> str:
    """Return ` for AGE`; nothing about what was seen for the first time."""
    return "" if seconds is None else f" for {since(seconds, evidence)}"


def _holder_phrase(holder: Holder) -> str:
    site = f" at {clean(holder.site)}" if holder.site else ""
    return f"{held_by(holder)}{for_age(holder.since_s, holder.evidence)}{site}"


def _queue(lock: Lock) -> str:
    if not lock.waiters:
        return ""
    verb = "waits" if len(lock.waiters) == 1 else "wait"
    return f" {len(lock.waiters)} {verb}: {counted_pids(waiter.process for waiter in lock.waiters)}."


def _grouped(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield one line for each kind of problem, however many processes it concerns."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.error, problem.remedy), []).append(problem)
    for (error, remedy), group in groups.items():
        concerned = sorted({problem.process.pid for problem in group if problem.process})
        whose = f" (pid {' '.join(map(str, concerned))})" if concerned else ""
        yield f"{clean(group[0].what)}: {clean(error)}{whose}."
        if remedy:
            yield clean(remedy)
