"""All that is known of a server's traced locks, and how it grows: fold(state, events or state files) -> state. Pure.

Events are exact and complete, but can be lost. State files have who holds what and the counts, at any time, but neither
the spread nor the sites. So holders follow the events, and each reading of the files puts right what a lost event left
wrong. A State is never changed: a fold copies what its batch touches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TypeVar

from semtrace.lazydata import dataclass, replace
from semtrace.model import ProcessId, SemId
from semtrace.tracing.events import Event
from semtrace.tracing.folding import Cell, Draft, Key, bounded_cells
from semtrace.tracing.nesting import Found, Held, Nestings
from semtrace.tracing.sampling import Sampler
from semtrace.tracing.sequence import Stream
from semtrace.tracing.tally import Tally, bounded
from semtrace.wire.statefile import LockBook, Site, StateFile
from semtrace.wire.words import Flag

_T = TypeVar("_T")

RECENT = 500
SHOWN_PER_S = 1000
MOST_NAMES = 10_000  # also of locks that are gone, which events may still name
MOST_LINES = 65_536

# A file is written a little after the time that it states: what is younger than this when it is read may lack.
LAG_NS = 2_000_000

_WINDOW_NS = 500_000_000


@dataclass(frozen=True)
class Files:
    """All state files of a server, read at one time (CLOCK_MONOTONIC). `living` are those of them that run.

    `users` say who owns each; `foreign` are those of users who are not the server's own. `refused` is how many were
    left out because their user may not report by them. `totals` is what ended processes have counted, None if the
    server's semtrace keeps no totals.
    """

    at_ns: int
    files: tuple[StateFile, ...]
    living: frozenset[ProcessId]
    users: Mapping[ProcessId, int] = field(default_factory=dict)
    foreign: frozenset[ProcessId] = frozenset()
    refused: int = 0
    totals: Mapping[SemId, Tally] | None = None


@dataclass(frozen=True)
class Refused:
    """Counts of refused events, and of state files that were refused at the last reading."""

    events: int = 0
    files: int = 0


@dataclass(frozen=True)
class Flow:
    """The flow of events: `rate` per second over the last complete half second, and the window that is not complete
    yet.
    """

    rate: float = 0.0
    since_ns: int = 0
    newest_ns: int = 0
    count: int = 0

    def with_events(self, count: int, newest_ns: int) -> Flow:
        newest_ns = max(newest_ns, self.newest_ns)
        passed = newest_ns - self.since_ns
        if not self.since_ns:
            return Flow(0.0, newest_ns, newest_ns, 0)
        if passed < _WINDOW_NS:
            return replace(self, newest_ns=newest_ns, count=self.count + count)
        return Flow((self.count + count) / passed * 1e9, newest_ns, newest_ns, 0)

    def rate_at(self, now_ns: int) -> float:
        """None came for a while: then the last window says nothing about now."""
        return self.rate if now_ns - self.newest_ns < 4 * _WINDOW_NS else 0.0

    @property
    def one_in(self) -> int:
        """Which part of the events is worth keeping for people to read."""
        return max(1, -int(-self.rate // SHOWN_PER_S))


@dataclass(frozen=True)
class State:
    """`cells` are who holds and waits, `tallies` the events by lock and site, since the viewing began. `totals` are
    what the server keeps of its ended processes, `retired` the counts of others whose file is gone. `recent` are the
    last events, of fast ones a sample. `held`, `nestings` and `sure` are what threads hold, held when they acquired
    another, and since when that is known.
    """

    cells: Mapping[Key, Cell] = field(default_factory=dict)
    tallies: Mapping[SemId, Mapping[int, Tally]] = field(default_factory=dict)
    streams: Mapping[ProcessId, Stream] = field(default_factory=dict)
    files: Mapping[ProcessId, StateFile] = field(default_factory=dict)
    living: frozenset[ProcessId] = frozenset()
    retired: Mapping[SemId, Tally] = field(default_factory=dict)
    totals: Mapping[SemId, Tally] = field(default_factory=dict)
    names: Mapping[SemId, str] = field(default_factory=dict)
    sites: Mapping[int, Site] = field(default_factory=dict)
    recent: tuple[Event, ...] = ()
    sampler: Sampler = field(default_factory=Sampler)
    received: int = 0
    lost_before: int = 0
    flow: Flow = field(default_factory=Flow)
    held: Held = field(default_factory=dict)
    nestings: Found = field(default_factory=dict)
    sure: Mapping[ProcessId, int] = field(default_factory=dict)
    refused: Refused = Refused()

    @property
    def lost(self) -> int:
        """Records that were sent, and never came."""
        return self.lost_before + sum(stream.lost for stream in self.streams.values())


def fold(state: State, news: Sequence[Event] | Files, viewer: ProcessId | None = None) -> State:
    """`viewer` is who reads the events: state files count what that one lost."""
    if isinstance(news, Files):
        return _fold_files(state, news, viewer)
    return _fold_events(state, news) if news else state


def _fold_events(state: State, events: Sequence[Event]) -> State:
    nestings = Nestings(state.held, state.nestings, state.sure)
    draft = Draft(state.cells, state.tallies, state.streams, nestings)
    draft.take(events)
    flow = state.flow.with_events(len(events), events[-1].time_ns)
    sample, sampler = state.sampler.take(events, flow.one_in)
    return replace(
        state,
        cells=draft.cells,
        tallies=draft.tallies,
        streams=draft.streams,
        recent=(*state.recent, *sample[-RECENT:])[-RECENT:],
        sampler=sampler,
        received=state.received + len(events),
        flow=flow,
        held={process: threads for process, threads in nestings.held.items() if threads},
        nestings=nestings.found,
        sure=nestings.sure,
    )


def _fold_files(state: State, news: Files, viewer: ProcessId | None) -> State:
    files = {file.process: file for file in news.files}
    draft = Draft(state.cells, state.tallies, state.streams, _begun(state, news))
    draft.forget(_stays(files, state.files, news.at_ns - LAG_NS))
    draft.forget_streams(lambda process: process in files or process not in state.files)
    for file in news.files:
        _heal_process(draft, file, news.at_ns - LAG_NS, viewer)
    names, sites = dict(state.names), dict(state.sites)
    for file in news.files:
        names.update((book.lock, book.name) for book in file.locks if book.name)
        if file.process in news.foreign:
            sites = {**file.sites, **sites}  # another user's word of a line stands only where nobody else knows it
        else:
            sites.update(file.sites)
    retired, gone = _retired(state, files, news.totals is not None)
    present = _in_files(files)
    ended = _in_files(state.files) - present
    return replace(
        state,
        cells=bounded_cells(draft.cells),
        tallies=bounded({lock: sites for lock, sites in draft.tallies.items() if lock not in ended}),
        streams=draft.streams,
        files=files,
        living=news.living,
        retired=retired,
        totals=news.totals or {},
        names=names if len(names) <= MOST_NAMES else {lock: names[lock] for lock in names.keys() & present},
        sites=sites if len(sites) <= MOST_LINES else _lines_of(news),
        lost_before=state.lost_before + gone,
        held=_living(draft.nestings.held, news),
        sure=_living(draft.nestings.sure, news),
        nestings=_of_locks(state.nestings, present),
    )


def _lines_of(news: Files) -> dict[int, Site]:
    """Those of the present files alone, the server's own last."""
    return {number: site for file in news.files for number, site in file.sites.items()}


def _in_files(files: Mapping[ProcessId, StateFile]) -> set[SemId]:
    return {book.lock for file in files.values() for book in file.locks}


def _begun(state: State, news: Files) -> Nestings:
    nestings = Nestings(state.held, state.nestings, state.sure)
    for file in news.files:
        if file.active and file.process not in state.sure and all(book.steady for book in file.locks):
            held = [book for book in file.locks if book.since_ns and not book.flags & Flag.SIGNAL]
            nestings.begin(file.process, news.at_ns, [(book.tid, book.lock) for book in held])
    return nestings


def _living(by_process: Mapping[ProcessId, _T], news: Files) -> Mapping[ProcessId, _T]:
    return {process: what for process, what in by_process.items() if process in news.living}


def _of_locks(nestings: Found, present: set[SemId]) -> Found:
    if all(each.outer in present and each.inner in present for each in nestings):
        return nestings
    return {each: by for each, by in nestings.items() if each.outer in present and each.inner in present}


def _stays(
    files: Mapping[ProcessId, StateFile], before: Mapping[ProcessId, StateFile], sure_ns: int
) -> Callable[[tuple[ProcessId, SemId], Cell], bool]:
    """A cell goes with its process's file, or with its lock's slot in it."""
    slots = {process: {book.lock for book in file.locks} for process, file in files.items()}

    def stays(key: tuple[ProcessId, SemId], cell: Cell) -> bool:
        process, lock = key
        if process not in slots:
            return process not in before
        return lock in slots[process] or cell.changed_ns > sure_ns

    return stays


def _retired(state: State, files: Mapping[ProcessId, StateFile], has_totals: bool) -> tuple[Mapping[SemId, Tally], int]:
    """Return the counts of those that have no file any more, or a new one after an exec; and what they had lost."""
    gone = [old for old in state.files.values() if _replaced(old, files.get(old.process))]
    if not gone:
        return state.retired, 0
    retired = dict(state.retired)
    uncounted = [old for old in gone if not (has_totals and _dropped(old, files))]
    for book in (book for old in uncounted for book in old.locks):
        retired[book.lock] = retired.get(book.lock, Tally()).copy().add(book)
    present = _in_files(files)
    lost = sum(state.streams[old.process].lost for old in gone if _dropped(old, files) and old.process in state.streams)
    return {lock: tally for lock, tally in retired.items() if lock in present}, lost


def _dropped(old: StateFile, files: Mapping[ProcessId, StateFile]) -> bool:
    return old.process not in files


def _replaced(old: StateFile, new: StateFile | None) -> bool:
    return new is None or new.since_ns != old.since_ns


def _heal_process(draft: Draft, file: StateFile, sure_ns: int, viewer: ProcessId | None) -> None:
    """Put the books in the place of cells that no event has changed since. A book that moved is read another time."""
    stream = draft.stream(file.process)
    stream.healed = stream.skipped
    if viewer in file.lost_by_viewer:
        stream.reported_lost = file.lost_by_viewer[viewer]
    for book in file.locks:
        if book.steady:
            draft.heal((file.process, book.lock), _booked(book, sure_ns))


def _booked(book: LockBook, sure_ns: int) -> Cell:
    holds, waits = {}, {}
    if book.since_ns and not book.flags & Flag.SIGNAL:
        holds[book.since_ns] = book.tid << 32 | book.site
    if book.waiting > 0 and book.waiting_since_ns:
        waits[book.waiting_tid] = (book.waiting_since_ns, book.waiting_site)
    return Cell(book.kind, holds, waits, book.count, book.waiting, sure_ns, sure_ns)
