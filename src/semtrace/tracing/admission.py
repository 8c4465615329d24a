"""Admit the events that their user may report, and count the others. Pure, except that it asks which processes live.

An event can come before the next scan shows its process or its lock. Such events are kept back until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from semtrace.model import SemId
from semtrace.tracing.events import Event, Origin
from semtrace.tracing.reporters import Reporters
from semtrace.tracing.state import Files

MOST_WAITING = 8192


class Admission:
    """`refused` counts events that nobody may report: about other users' processes and locks, about no lock, or from
    the future.
    """

    def __init__(self, reporters: Reporters) -> None:
        self.refused = 0
        self._reporters = reporters
        self._listed: dict[int, set[SemId]] = {}
        self._before: dict[int, set[SemId]] = {}
        self._admitted: dict[Origin, bool] = {}
        self._waiting: list[tuple[int, Event]] = []
        self._scanned = True

    @property
    def waits(self) -> bool:
        """Return True while events are kept back until the next scan."""
        return bool(self._waiting)

    def update(self, files: Files) -> None:
        """Record which locks the files list, by user. Events about a lock that has just gone still count."""
        self._before, self._listed = self._listed, {}
        for file in files.files:
            listed = self._listed.setdefault(files.users.get(file.process, -1), set())
            listed.update(book.lock for book in file.locks)
        self._admitted.clear()
        self._scanned = True

    def admit(self, found: Mapping[int, Iterable[Event]], now_ns: int) -> list[Event]:
        """Return the events that count now, in the order of users. `found` has them by the user who owns their pipe."""
        events: list[Event] = []
        if self._scanned:
            self._scanned = False
            waiting, self._waiting = self._waiting, []
            events += [event for user, event in waiting if self._is_admitted(user, event[0])]
            self.refused += len(waiting) - len(events)
        for user, several in found.items():
            events += self._of_one(user, list(several), now_ns)
        return events

    def _of_one(self, user: int, events: list[Event], now_ns: int) -> list[Event]:
        strange = {event[0] for event in events}
        strange = {origin for origin in strange if not self._is_admitted(user, origin)}
        if not strange and max((event[3] for event in events), default=0) <= now_ns:
            return events
        admitted = [event for event in events if event[3] <= now_ns and event[0] not in strange]
        waiting = [(user, event) for event in events if event[3] <= now_ns and event[0] in strange]
        room = MOST_WAITING - len(self._waiting)
        self._waiting += waiting[:room]
        self.refused += len(events) - len(admitted) - min(len(waiting), room)
        return admitted

    def _is_admitted(self, user: int, origin: Origin) -> bool:
        if origin not in self._admitted:
            self._admitted[origin] = self._may_report(user, origin)
        return self._admitted[origin]

    def _may_report(self, user: int, origin: Origin) -> bool:
        """The server's own user may also report locks that came and went between two scans."""
        if not self._reporters.may_report_process(user, origin.process):
            return False
        if origin.lock is None or user in self._reporters.trusted:
            return True
        listed = any(origin.lock in each.get(user, ()) for each in (self._listed, self._before))
        return listed and self._reporters.may_report_lock(user, origin.lock)
