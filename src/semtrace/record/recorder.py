"""Records one server: a snapshot every so often, into a file, or into memory until there is a reason to write it."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.model import DeathCause, Finding, ProcessId, SemId, Server, Snapshot
from semtrace.observe.observer import Observer
from semtrace.observe.pyspy import confirmed, with_stacks
from semtrace.present.deaths import death_text
from semtrace.record.chunks import Chunk, ChunkKind
from semtrace.record.collecting import TraceCollector
from semtrace.record.eventlog import event_chunks, legend_chunk
from semtrace.record.groups import Frame, GroupWriter
from semtrace.record.head import encode_head, new_head, schema
from semtrace.record.numbers import Unrecordable
from semtrace.record.sink import File, Ring
from semtrace.record.stackbook import StackBook
from semtrace.rules import Limits
from semtrace.tracing.polling import StateFilePoller
from semtrace.wire.event import EVENT_SIZE

# py-spy takes 10 to 50 ms for each process: not more often than this.
_STACKS_EVERY_S = 2.0
# What follows a reason to write is worth as much as what led to it.
_AFTER_NS = 10_000_000_000
# So long after a death it may still become known how it was.
_UNDECIDED_S = 4.0
_MOST_KEPT = 256 << 20
# While nothing in the server moves, a snapshot so often is enough: ages grow, and limits are passed.
_STILL_S = 1.0


@dataclass(frozen=True)
class Wanted:
    """Options of a recorder. `keep_s`: keep so much in memory, and write it when something happens; None: write all."""

    interval_s: float
    keep_s: float | None = None
    events: bool = False
    stacks: bool = True
    limits: Limits = Limits()


class Recorder:
    """Take snapshots when `step` is called, until the server has ended. `close` closes everything.

    `written` counts the snapshots in the file, `events` the events that came, `reasons` say why a ring was written.
    """

    def __init__(self, server: Server, wanted: Wanted, file: File) -> None:
        self.server = server
        self.file = file
        self.ended = False
        self.written = self.taken = self.unrecordable = self.events = 0
        self.reasons: list[str] = []
        self.last: Snapshot | None = None
        self._wanted = wanted
        self._collector = TraceCollector() if wanted.events else None
        self._observer = Observer(server, trace_source=self._collector or StateFilePoller(), limits=wanted.limits)
        self._groups = GroupWriter(schema())
        self._ring = None if wanted.keep_s is None else Ring(int(wanted.keep_s * 1e9), _MOST_KEPT)
        self._open_until_ns = 0
        self._errors: set[Hashable] = set()
        self._seen: set[Hashable] = set()
        self._dead: set[ProcessId] = set()
        self._stacks = StackBook()
        self._stacks_due_s = 0.0
        self._marks: object | None = None
        self._taken_s = float("-inf")
        head = new_head(wanted.interval_s, tuple(sorted(wanted.limits.ignore)), server.pid)
        self.file.write([encode_head(head, schema())])
        self._head_size = self.file.size

    @property
    def wants_events(self) -> bool:
        return self._collector is not None

    @property
    def ready(self) -> tuple[int, ...]:
        """Return descriptors that can be read when there are events to store."""
        return (self._collector.drain.ready,) if self._collector else ()

    @property
    def ends(self) -> list[int]:
        """Return descriptors that can be read once a process of the server has ended: then a snapshot is due."""
        return self._observer.ends

    @property
    def is_empty(self) -> bool:
        """Return True if nothing was written but the head."""
        return self.file.size == self._head_size

    def close(self) -> None:
        self._observer.close()
        self.file.close()

    def tick(self) -> None:
        """Take a snapshot unless nothing in the server has moved since the last one, and that is not long ago."""
        before, self._marks = self._marks, self._observer.marks()
        if self._marks is None or self._marks != before or time.monotonic() - self._taken_s >= _STILL_S:
            self.step()
        else:
            self.store_events()

    def step(self) -> None:
        """Take one snapshot and record it. Raises CannotWrite, Full."""
        self._taken_s = time.monotonic()
        snapshot = self._observer.snapshot()
        if self._wanted.stacks and snapshot.alive:
            snapshot = self._stacks.filled(self._with_stacks(snapshot))
        self.taken += 1
        at_ns = time.monotonic_ns()
        self.store_events()
        try:
            self._put([self._groups.chunk(Frame(at_ns, snapshot))], at_ns, snapshots=1)
        except Unrecordable:
            self.unrecordable += 1
        for reason in self._reasons(snapshot):
            self.write(reason)
        self.last, self.ended = snapshot, not snapshot.alive
        if self.ended and self._ring is not None:
            self.write("the server has ended")

    def store_events(self) -> None:
        """Record the events that came since the last time."""
        if self._collector is None:
            return
        now_ns = time.monotonic_ns()
        if legend := self._collector.legend():
            self._put([legend_chunk(legend, now_ns)], now_ns)
        for user, data in self._collector.events():
            self.events += len(data) // EVENT_SIZE
            self._put(event_chunks(user, data, time.monotonic_ns()), now_ns)

    def write(self, reason: str) -> None:
        """Write what is kept in memory, and what comes in the next seconds."""
        if self._ring is None:
            return
        self.reasons.append(reason)
        chunks = list(self._ring.taken())
        if self._collector is not None:  # the part of it that was kept may have been dropped
            now_ns = time.monotonic_ns()
            chunks.insert(0, legend_chunk(self._collector.all_of_legend(), now_ns))
        self.file.write(chunks)
        self.written += sum(chunk.kind in (ChunkKind.GROUP, ChunkKind.NEXT) for chunk in chunks)
        self._open_until_ns = time.monotonic_ns() + _AFTER_NS

    def _put(self, chunks: Iterable[Chunk], at_ns: int, snapshots: int = 0) -> None:
        if self._ring is None or at_ns < self._open_until_ns:
            self.file.write(chunks)
            self.written += snapshots
            return
        if self._open_until_ns:
            self._open_until_ns = 0
            self._groups.begin()  # what follows is written without this one, or not at all
        for chunk in chunks:
            self._ring.add(chunk)

    # -- reasons to write

    def _reasons(self, snapshot: Snapshot) -> Iterable[str]:
        errors = {each.key: each for each in snapshot.findings if each.severity == "error"}
        for key in errors.keys() - self._errors:
            yield f"{errors[key].code}"
        self._errors = set(errors)
        for death in snapshot.deaths:
            undecided = death.cause is DeathCause.UNKNOWN and death.ended_s < _UNDECIDED_S
            if death.id in self._dead or undecided:
                continue
            self._dead.add(death.id)
            if death.role == "worker" and death.exit_code != 0:
                yield f"worker {death.pid} {death_text(death.cause, death.exit_code, death.silent_s)}"

    # -- stacks

    def _with_stacks(self, snapshot: Snapshot) -> Snapshot:
        """Return it with the stacks of those that a new finding is about, as doctor takes them."""
        new = [each for each in snapshot.findings if each.severity != "note" and each.key not in self._seen]
        if not new or time.monotonic() < self._stacks_due_s:
            return snapshot
        self._seen = {each.key for each in snapshot.findings}
        locks = _locks_of(new)
        if not locks:
            return snapshot
        stacked = with_stacks(snapshot, locks)
        self._stacks_due_s = time.monotonic() + _STACKS_EVERY_S
        if stacked is snapshot:
            return snapshot
        return replace(confirmed(stacked, self._observer.snapshot()), problems=snapshot.problems)


def _locks_of(findings: Iterable[Finding]) -> set[SemId]:
    return {lock.id for finding in findings for lock in finding.locks if lock.id is not None}
