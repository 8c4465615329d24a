"""What the screens share while they look at one server: the picture, what came before, and what the edge lends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from semtrace.errors import SemtraceError
from semtrace.model import Frame, Lock, Problem, ProcessId, SemId, Server, Snapshot, Surroundings
from semtrace.settings import Settings
from semtrace.timelines.overview import Cell
from semtrace.timelines.timeline import Timeline
from semtrace.tui.child import Child
from semtrace.tui.health import Examine
from semtrace.tui.meter import Meter
from semtrace.tui.remembered import Remembered
from semtrace.tui.text.entries import Stacks as Stacks

TakeStacks = Callable[[Sequence[ProcessId]], tuple[Stacks, Sequence[Problem]]]
Release = Callable[[Server, SemId], Sequence[str]]
LookUp = Callable[[ProcessId], Surroundings | None]
AcquiredAt = Callable[[Lock], Mapping[tuple[ProcessId, int | None], Frame]]


class Player(Protocol):
    """A recording that is played. `history` are the pictures before the one of now; `go` takes a time as it is typed,
    `go_to` and `part` know which part of the recording lies before it. `event` takes long, and is for another thread.
    """

    playing: bool

    def toggle(self) -> None: ...
    def faster(self, steps: int) -> None: ...
    def step(self, by: int) -> None: ...
    def skip(self, seconds: float) -> None: ...
    def event(self, by: int) -> str: ...
    def history(self) -> Sequence[Snapshot]: ...
    def go(self, text: str) -> None: ...
    def go_to(self, part: float) -> None: ...
    def part(self) -> float: ...
    def cells(self, count: int) -> Sequence[Cell]: ...
    def words(self) -> str: ...


class Recorder(Protocol):
    """Records the server into a file. `start` says where that is, `stop` and `news` what became of it."""

    @property
    def running(self) -> bool: ...
    def start(self, pid: int, events: bool) -> str: ...
    def stop(self) -> str: ...
    def news(self) -> str: ...


@dataclass(frozen=True)
class Tools:
    """What reads or acts when a user asks: each is called in a thread of its own, and without it its key says why.

    `release` releases an orphaned lock and says what came of it; `stacks` reads Python stacks; `look_up` tells what a
    process was started as; `folder` is where `S` saves, None where nothing may be saved. `player`: it is a recording.
    `recorder` makes one. `examine` answers whether a server moves, for the list of several. `acquired_at` reads at
    which line each holder acquired a lock. `story` is what a demo says about itself.
    """

    release: Release | None = None
    stacks: TakeStacks | None = None
    folder: Path | None = None
    look_up: LookUp | None = None
    player: Player | None = None
    recorder: Recorder | None = None
    examine: Examine | None = None
    acquired_at: AcquiredAt | None = None
    story: str = ""


@dataclass
class ViewState:
    """One server under view. `newest` is what was last read, `snapshot` what is shown: they differ while paused."""

    server: Server
    tools: Tools = field(default_factory=Tools)
    settings: Settings = field(default_factory=Settings)
    meter: Meter = field(default_factory=Meter)
    child: Child | None = None
    several: bool = False  # there is a list of servers to go back to
    remembered: Remembered = field(default_factory=Remembered)
    snapshot: Snapshot | None = None
    newest: Snapshot | None = None
    trouble: SemtraceError | None = None  # why the last reading failed
    paused: bool = False
    interval_s: float = 0.0  # between two readings
    last_output: str = ""  # of a server that semtrace started and that has failed: its last line
    timeline: Timeline = field(default_factory=Timeline)

    def __post_init__(self) -> None:
        self.interval_s = self.interval_s or self.settings.interval

    def collect(self, snapshot: Snapshot) -> None:
        """Takes what was read; also while paused."""
        self.newest = snapshot
        self.trouble = None
        self.timeline.add(snapshot)

    def jump(self, history: Sequence[Snapshot]) -> None:
        """Begin the timeline anew, with what was before another moment of a recording."""
        self.timeline = Timeline()
        for snapshot in history:
            self.timeline.add(snapshot)

    def catch_up(self) -> bool:
        """Makes the newest picture the one that is shown; False if it is, or must not be."""
        if self.newest is self.snapshot or self.paused:
            return False
        self.snapshot = self.newest
        return True
