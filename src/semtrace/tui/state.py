"""State that the screens of one server share: the picture, what came before, and the tools from outside the TUI."""

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
    """Records the server into a file. `start` returns where that is, `stop` and `news` return the outcome."""

    @property
    def running(self) -> bool: ...
    def start(self, pid: int, events: bool) -> str: ...
    def stop(self) -> str: ...
    def news(self) -> str: ...


@dataclass(frozen=True)
class Tools:
    """Functions that read or act when a user asks. Each is called in its own thread; if it is None its key says why.

    `release` releases an orphaned lock and returns lines about the outcome. `stacks` reads Python stacks. `look_up`
    reads how a process was started. `folder` is where `S` saves, None if nothing may be saved. `player` plays a
    recording, None for a live server. `recorder` makes one. `examine` finds whether a server moves, for the list of
    several. `acquired_at` reads at which line each holder acquired a lock. `story` is the text of a demo about itself.
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
    """One server under view. `newest` was read last, `snapshot` is shown: they differ while paused."""

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
        """Take a picture that was read; also while paused."""
        self.newest = snapshot
        self.trouble = None
        self.timeline.add(snapshot)

    def jump(self, history: Sequence[Snapshot]) -> None:
        """Start a new timeline, with what was before another moment of a recording."""
        self.timeline = Timeline()
        for snapshot in history:
            self.timeline.add(snapshot)

    def catch_up(self) -> bool:
        """Show the newest picture; return False if it is shown already, or must not be while paused."""
        if self.newest is self.snapshot or self.paused:
            return False
        self.snapshot = self.newest
        return True
