"""The places where holders of a semaphore acquired it: the line of the `with` or of the acquire, by their frames.

Two samples in a row must agree. A lock that other code has acquired and kept has no such line.
"""

from __future__ import annotations

from collections.abc import Iterable

from semtrace.cpython import semlock
from semtrace.cpython.forks import own_frames
from semtrace.cpython.held import Evidence, evidence
from semtrace.cpython.semtype import is_semlock_type
from semtrace.cpython.stack import StackReader
from semtrace.cpython.threadids import tid_offset
from semtrace.lazydata import dataclass, replace
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE, read_stat, still
from semtrace.linux.pthread import innermost_ids, kernel_tid
from semtrace.linux.source import SourceLines
from semtrace.model import Frame, Holder, Lock, ProcessId, SemId

MOST_PROCESSES = 4
_MOST_ADDRESSES = 10_000

Places = dict[tuple[ProcessId, int | None], Frame]


def acquired_at(lock: Lock) -> Places:
    """Return the line at which each holder acquired the lock, as far as it is known."""
    found: Places = {}
    for holder in lock.holders[:MOST_PROCESSES]:
        frame = _by_site(holder) if holder.site else _by_frames(holder, lock.id)
        if frame is not None:
            source = SourceLines(holder.pid).line(frame.file, frame.line)
            found[holder.process, holder.tid] = replace(frame, source=source)
    return found


def _by_site(holder: Holder) -> Frame | None:
    """A traced lock says it itself, as FILE:LINE."""
    file, _, line = (holder.site or "").rpartition(":")
    return Frame("", file, int(line)) if file and line.isascii() and line.isdigit() and len(line) < 10 else None


def _by_frames(holder: Holder, semaphore: SemId) -> Frame | None:
    stat = read_stat(holder.pid)
    if stat is None or stat.id != holder.process:
        return None
    try:
        with Memory(holder.pid) as memory:
            reader = _Reader(holder, semaphore, memory, stat.forked, stat.threads)
            first = reader.place()
            return first.frame if first is not None and first == reader.place() and still(holder.process) else None
    except OSError:
        return None


@dataclass(frozen=True)
class _Place:
    """The instruction and the frame, which two samples must have in common."""

    frame: Frame
    address: int
    instruction: int


class _Reader:
    def __init__(self, holder: Holder, semaphore: SemId, memory: Memory, forked: bool, threads: int) -> None:
        self._tid = holder.tid
        self._pid = holder.pid
        self._memory = memory
        self._forked = forked
        self._threads = threads
        mappings = read_mappings(holder.pid) or []
        self._locks = _Objects(memory, [m.start for m in mappings if SemId(*m.device, m.inode) == semaphore])
        self._offset = tid_offset(memory, mappings, innermost_ids(holder.pid))
        self._stacks = StackReader(holder.pid, memory)

    def place(self) -> _Place | None:
        """Return the only place that the strongest evidence names."""
        sample = self._stacks.sample()
        if sample is None:
            return None
        own = (replace(each, frames=own_frames(sample, each.frames, self._forked)) for each in sample.threads)
        found = evidence(replace(sample, threads=tuple(own)), self._locks) or {}
        mine = [each for every in found.values() for each in every if self._is_holder(each)]
        strongest = [each for each in mine if each.kind is mine[0].kind]
        places = {_place(each) for each in strongest if each.acquired_line}
        return places.pop() if len(places) == 1 else None

    def _is_holder(self, each: Evidence) -> bool:
        pthread = each.thread.pthread_id
        return (
            self._tid is None or kernel_tid(self._memory, self._pid, pthread, self._threads, self._offset) == self._tid
        )


def _place(each: Evidence) -> _Place:
    frame = each.frame
    return _Place(Frame(frame.function, frame.file, each.acquired_line or 0), frame.address, frame.instruction)


class _Objects:
    """The SemLock objects of one semaphore, as something that knows what is in it: they need no search then."""

    def __init__(self, memory: Memory, mapped: Iterable[int]) -> None:
        self._memory = memory
        self._mapped = list(mapped)
        self._known: dict[int, bool] = {}

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, int):
            return False
        if address not in self._known and len(self._known) < _MOST_ADDRESSES:
            self._known[address] = self._is_one(address)
        return self._known.get(address, False)

    def _is_one(self, address: int) -> bool:
        found = semlock.read(self._memory, address)
        return (
            found is not None
            and any(start <= found.handle < start + PAGE_SIZE for start in self._mapped)
            and is_semlock_type(self._memory, found.type)
        )
