"""Find the processes whose first thread runs an asyncio event loop. Each is asked seldom: its frames tell it.

The frames at the bottom of the stack are what counts, and they stay while the loop runs: so the thread need not sleep.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from semtrace.cpython.stack import PyFrame, StackReader
from semtrace.lazydata import dataclass
from semtrace.linux.blocked import Call
from semtrace.model import ProcessId
from semtrace.observe.watch.watched import Watched

# An event loop waits in one of these. Those of asyncio and uvloop have frames in these folders.
_CALLS = (Call.EPOLL, Call.SELECT, Call.POLL)
_FOLDERS = ("/asyncio/", "/uvloop/")

# The pause between two questions to one process, doubled each time; and how long one pass may ask.
_PAUSE_S, _MOST_PAUSE_S = 2.0, 60.0
_BUDGET_S = 0.05


@dataclass(frozen=True)
class _Asked:
    runs: bool
    again_s: float
    pause_s: float


class EventLoops:
    def __init__(self) -> None:
        self._asked: dict[ProcessId, _Asked] = {}

    def read(
        self,
        now_s: float,
        watched: Sequence[Watched],
        doing: Mapping[ProcessId, Call],
        seen: Mapping[ProcessId, Sequence[PyFrame]],
        more: bool = False,
    ) -> frozenset[ProcessId]:
        """Return those that are known to run one. `doing` is the call that the first thread of each is in, `seen` its
        frames where they have been read. `more`: those of others will be read soon. To read stacks takes most of the
        time of a first snapshot, so none is read twice.
        """
        living = {each.id for each in watched}
        self._asked = {process: asked for process, asked in self._asked.items() if process in living}
        end_s = time.monotonic() + _BUDGET_S
        for each in watched if not more else [each for each in watched if each.id in seen]:
            if doing.get(each.id) in _CALLS and self._is_due(each.id, now_s) and time.monotonic() < end_s:
                before = self._asked.get(each.id)
                pause_s = min(2 * before.pause_s, _MOST_PAUSE_S) if before else _PAUSE_S
                self._asked[each.id] = _Asked(_runs_loop(each, seen.get(each.id)), now_s + pause_s, pause_s)
        return frozenset(process for process, asked in self._asked.items() if asked.runs)

    def _is_due(self, process: ProcessId, now_s: float) -> bool:
        asked = self._asked.get(process)
        return asked is None or (not asked.runs and now_s >= asked.again_s)


def _runs_loop(watched: Watched, seen: Sequence[PyFrame] | None) -> bool:
    frames = seen or _frames_of_first_thread(watched)
    return any(folder in frame.file for frame in frames for folder in _FOLDERS)


def _frames_of_first_thread(watched: Watched) -> list[PyFrame]:
    if watched.memory is None:
        return []
    sample = StackReader(watched.id.pid, watched.memory).sample()
    first = (each for each in sample.threads if watched.tid_of(each.pthread_id) == watched.id.pid) if sample else ()
    return [frame for thread in first for frame in thread.frames]
