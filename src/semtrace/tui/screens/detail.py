"""The sheet of one lock or process: all that is known, with the Python stacks of its threads, again and again."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.model import Frame, Lock, Problem, Process, ProcessId, Snapshot, Surroundings
from semtrace.reports.stacks import stack_lines
from semtrace.timelines.timeline import Timeline
from semtrace.tui.commands import COMMANDS, hint
from semtrace.tui.messages import Broken
from semtrace.tui.screens.sheets import Sheet
from semtrace.tui.screens.view import Open
from semtrace.tui.state import ViewState
from semtrace.tui.text import subjects
from semtrace.tui.text.entries import NO_STACKS, Stacks, problem_entries
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.line import Item
from semtrace.tui.text.lock_entries import MOST_FRAMES, LockContext, SeenAcquire
from semtrace.tui.text.stack_readings import Reading, roles, unchanged_since
from semtrace.tui.text.timeline_rows import readout

# Each process costs some 10 ms of py-spy's: more of them are read less often, and never more than so many.
LEAST_PAUSE_S = 2.0
PAUSE_EACH_S = 0.2
MOST_PROCESSES = 16
MOST_HOLDS = 12
LIBRARIES_KEY = "l"
MOST_SOURCES, MOST_PLACES = 1000, 20


def concerned(row: Hashable, snapshot: Snapshot | None) -> list[tuple[ProcessId, int | None]]:
    """Return the threads whose stacks explain a row: a lock's holders and waiters, or all of a process (TID None)."""
    subject = subjects.find(row, snapshot) if snapshot else None
    if isinstance(subject, Lock):
        holders = [(holder.process, holder.tid) for holder in subject.holders]
        patient = sorted(subject.waiters, key=lambda waiter: -(waiter.for_s or 0.0))
        return [*holders, *((waiter.process, waiter.tid) for waiter in patient)]
    return [(subject.id, None)] if isinstance(subject, Process) else []


def neighbours(row: Hashable, snapshot: Snapshot | None) -> list[Hashable]:
    """Return the targets of the digits: of a lock its holders and waiters, of a process its locks."""
    subject = subjects.find(row, snapshot) if snapshot else None
    if isinstance(subject, Process):
        return [*subject.holds, *subject.waits_on]
    return [process for process, _ in concerned(row, snapshot)]


def thread_entries(process: ProcessId, stacks: Stacks, libraries: bool, opens: str) -> Iterator[Entry]:
    """The stacks of all threads of a process, its first thread's first."""
    mine = sorted((tid, stack) for (owner, tid), stack in stacks.items() if owner == process)
    for tid, stack in mine:
        label = "stack" if tid == process.pid else f"thread {tid}"
        yield Entry(label, "\n".join(stack_lines(stack, libraries, opens, MOST_FRAMES)) or "in no Python code")


def hold_entries(process: ProcessId, snapshot: Snapshot, timeline: Timeline) -> Iterator[Entry]:
    """Yield the recent holds of a process, the newest first."""
    for place, span in enumerate(timeline.lately(process, "held", MOST_HOLDS)):
        yield Entry("" if place else "held lately", readout(span, snapshot, timeline, who=False))


class DetailSheet(Sheet):
    """Stacks are read in a thread of their own, never two at once."""

    topic = "details"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "stacks", show=False),
        Binding("l", "libraries", show=False),
        *(Binding(str(digit), f"go({digit})", show=False) for digit in range(1, 10)),
    ]

    class Taken(Message):
        def __init__(
            self,
            stacks: Stacks,
            problems: Sequence[Problem],
            surroundings: Surroundings | None,
            acquired: Mapping[tuple[ProcessId, int | None], Frame],
        ) -> None:
            super().__init__()
            self.stacks = stacks
            self.problems = problems
            self.surroundings = surroundings
            self.acquired = acquired

    def __init__(self, view_state: ViewState, row: Hashable) -> None:
        super().__init__(self._title, self._entries)
        self._view_state = view_state
        self._row = row
        self._named = ""
        self._asked = False
        self._refreshing = True
        self._due = 0.0
        self._before: Snapshot | None = None  # the picture before the stacks were asked for
        self._arrived: DetailSheet.Taken | None = None
        self._reading: Reading | None = None
        self._sources: dict[tuple[str, int], str] = {}
        self._seen: dict[tuple[str, int], SeenAcquire] = {}
        self._digits: dict[ProcessId, int] = {}
        self._libraries = False

    def hints(self) -> Sequence[Item]:
        items = []
        if neighbours(self._row, self._view_state.snapshot):
            items.append(hint("1-9", COMMANDS["choose"]._replace(word="go to", order=2), ""))
        if self._able():
            word = "hold the stacks" if self._refreshing else "refresh the stacks"
            items.append(hint("u", COMMANDS["choose"]._replace(word=word, order=3), ""))
            word = "own frames" if self._libraries else "library frames"
            items.append(hint("l", COMMANDS["choose"]._replace(word=word, order=4), ""))
        return items

    # ---- keys

    def action_libraries(self) -> None:
        """Open or fold the frames of libraries."""
        self._libraries = not self._libraries
        self.freshen()

    def action_stacks(self) -> None:
        if not self._able():
            self.say("there are no stacks to read here")
            return
        self._refreshing = not self._refreshing
        self._due = 0.0
        self.show_keys()
        self.renew()

    def action_go(self, digit: int) -> None:
        place = self._places().get(digit)
        if place is not None:
            self.post_message(Open(place))
        else:
            self.say(f"nothing here has the digit {digit}")

    def _places(self) -> dict[int, Hashable]:
        """Return the target of each digit. On the sheet of a lock a digit keeps its process."""
        if concerned(self._row, self._view_state.snapshot) and not isinstance(self._row, ProcessId):
            return {digit: process for process, digit in self._digits.items()}
        return dict(enumerate(neighbours(self._row, self._view_state.snapshot), 1))

    # ---- stacks and surroundings

    def _able(self) -> bool:
        snapshot = self._view_state.snapshot
        alive = snapshot is not None and snapshot.alive
        return alive and self._view_state.tools.stacks is not None and bool(concerned(self._row, snapshot))

    def _processes(self, snapshot: Snapshot) -> list[ProcessId]:
        """Return the processes whose stacks are read."""
        return list(dict.fromkeys(process for process, _ in concerned(self._row, snapshot)))[:MOST_PROCESSES]

    def _take(self) -> None:
        """Start to read stacks as soon as that is due; while paused the stacks stand still with the picture."""
        snapshot, newest = self._view_state.snapshot, self._view_state.newest
        tools = self._view_state.tools
        if self._asked or snapshot is None or newest is None or newest.monotonic_s < self._due or not newest.alive:
            return
        if self._reading is not None and (not self._refreshing or self._view_state.paused):
            return
        processes = self._processes(snapshot)
        if not processes or (tools.stacks is None and tools.look_up is None and tools.acquired_at is None):
            return
        self._asked = True
        self._due = newest.monotonic_s + max(LEAST_PAUSE_S, PAUSE_EACH_S * len(processes))
        self._before = newest
        threading.Thread(target=self._act, args=(processes, newest), name="semtrace-stacks", daemon=True).start()

    def _act(self, processes: Sequence[ProcessId], snapshot: Snapshot) -> None:
        """Runs in its own thread."""
        tools = self._view_state.tools
        try:
            lock = subjects.find(self._row, snapshot)
            acquired = tools.acquired_at(lock) if tools.acquired_at and isinstance(lock, Lock) else {}
            stacks, problems = tools.stacks(processes) if tools.stacks else (NO_STACKS, ())
            alone = processes[0] if self._row == processes[0] else None
            known = tools.look_up(alone) if alone and tools.look_up else None
            outcome: Message = self.Taken(stacks, problems, known, acquired)
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
            outcome = Broken(error)
        self.post_message(outcome)

    def on_detail_sheet_taken(self, message: Taken) -> None:
        """Keep the stacks until the next picture, which shows whose role is the same as before the reading."""
        self._arrived = message

    def collected(self) -> None:
        arrived, before, after = self._arrived, self._before, self._view_state.newest
        if arrived is None or before is None or after is None:
            return
        self._asked, self._arrived = False, None
        self._learn(arrived, before.monotonic_s)
        proven = unchanged_since(roles(self._row, before), roles(self._row, after))
        self._reading = Reading(
            arrived.stacks, arrived.problems, arrived.surroundings, before.monotonic_s, proven, arrived.acquired
        )
        if arrived.problems and not arrived.stacks:
            self._refreshing = False  # it will not be otherwise in two seconds; u tries again
        self.freshen()

    def _learn(self, arrived: Taken, at_s: float) -> None:
        """Remember what is true for any holder: lines of source, and where the lock was acquired."""
        frames = [frame for stack in arrived.stacks.values() for frame in stack]
        lines = {(each.file, each.line): each.source for each in frames if each.source}
        self._sources = lines if len(self._sources) > MOST_SOURCES else {**self._sources, **lines}
        for (process, _), frame in arrived.acquired.items():
            place = (frame.file, frame.line)
            known = self._seen.pop(place, None)
            self._seen[place] = SeenAcquire(frame, process.pid, at_s, known.times + 1 if known else 1)
        while len(self._seen) > MOST_PLACES:
            del self._seen[next(iter(self._seen))]

    def on_broken(self, message: Broken) -> None:
        raise message.error

    # ---- drawing

    def renew(self) -> None:
        self._take()
        self._number()
        super().renew()

    def _number(self) -> None:
        """Let each process keep its digit while the sheet is open: on a busy lock they move five times a second."""
        snapshot = self._view_state.snapshot
        there = {process.id for process in snapshot.processes} if snapshot else set()
        self._digits = {process: digit for process, digit in self._digits.items() if process in there}
        for process, _ in concerned(self._row, snapshot):
            if process not in self._digits:
                taken = set(self._digits.values())
                self._digits[process] = next(digit for digit in count(1) if digit not in taken)

    def _title(self) -> str:
        """Return the present name: names are found some pictures after locks. A row that is gone keeps its last."""
        snapshot = self._view_state.snapshot
        if snapshot is not None and (not self._named or subjects.find(self._row, snapshot) is not None):
            self._named = subjects.title(self._row, snapshot)
        return self._named

    def _entries(self) -> Iterable[Entry]:
        view_state, reading = self._view_state, self._reading
        snapshot = view_state.snapshot
        if snapshot is None:
            return
        yield from subjects.entries(
            self._row, snapshot, self._lock_context(snapshot), reading.surroundings if reading else None
        )
        if isinstance(self._row, ProcessId):
            if reading is not None and reading.stacks:
                yield Entry("stacks", reading.when(snapshot, view_state.paused), "dim")
                yield from thread_entries(self._row, reading.stacks, self._libraries, LIBRARIES_KEY)
            elif self._able() and self._asked:
                yield Entry("stacks", "not read yet", "dim")
            yield from hold_entries(self._row, snapshot, view_state.timeline)
        if reading is not None:
            yield from problem_entries(reading.problems)

    def _lock_context(self, snapshot: Snapshot) -> LockContext:
        """Return what is shown below the holders and waiters of a lock."""
        reading = self._reading
        failed = reading is not None and bool(reading.problems) and not reading.stacks
        awaited = frozenset(self._processes(snapshot)) if self._able() and not failed else frozenset()
        context = LockContext(
            awaited=awaited,
            digits=self._digits,
            libraries=self._libraries,
            timeline=self._view_state.timeline,
            opens=LIBRARIES_KEY,
            sources=self._sources,
            seen=tuple(reversed(self._seen.values())),
        )
        if reading is None:
            return context
        context = context._replace(acquired=reading.acquired_by(self._row, snapshot))
        if not reading.stacks:
            return context
        when = reading.when(snapshot, self._view_state.paused)
        return context._replace(stacks=reading.of(self._row, snapshot), when=when)
