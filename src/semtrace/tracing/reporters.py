"""Decide which users may report on which processes. The author of a state file or event is the user who owns its
directory.

A user may report on processes that run, or were seen to run, with that user's rights, and on locks that one of these
maps. The server's own user, root and the user who runs semtrace are trusted to report on any lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import NamedTuple

from semtrace.lazydata import dataclass
from semtrace.linux.process import still
from semtrace.linux.program import effective_user
from semtrace.model import ProcessId, SemId

# Bounds for what a hostile server could make grow or take long.
MOST_SEEN = 8192
MOST_STRANGERS = 256

_YOUNG_S = 5.0
_ASK_EVERY_S = 10.0


@dataclass(frozen=True)
class Mapped:
    """The processes that map each lock by their memory; of the `unknown` ones it could not be read."""

    of: Mapping[SemId, Collection[ProcessId]] = field(default_factory=dict)
    unknown: Collection[ProcessId] = ()


class _Asked(NamedTuple):
    """The last known user of a process, and when to ask again."""

    first_s: float
    next_s: float
    user: int | None


class Reporters:
    """The users of a server's processes. `trusted` are those who may report on every lock of the server."""

    def __init__(self) -> None:
        self.trusted: frozenset[int] = frozenset({0, os.geteuid()})
        self.members: tuple[ProcessId, ...] = ()
        self._seen: dict[ProcessId, frozenset[int]] = {}
        self._living: frozenset[int] = frozenset()
        self._mapped: Mapped | None = None
        self._strangers: dict[ProcessId, bool] = {}
        self._may_report_lock: dict[tuple[int, SemId], bool] = {}
        self._asked: dict[ProcessId, _Asked] = {}

    @property
    def users(self) -> list[int]:
        """Return the users whose directories to look for."""
        return sorted(self._living)

    def update(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> None:
        """Update the users. The server's own process comes first, and decides who its user is."""
        self.members = tuple(members) or self.members
        self._mapped = mapped
        self._strangers, self._may_report_lock = {}, {}
        now = self._users(members)
        for process, user in now.items():
            self._seen[process] = self._seen.pop(process, frozenset()) | {user}
        for process in list(self._seen)[: max(len(self._seen) - MOST_SEEN, 0)]:
            del self._seen[process]
        if now:
            self._living = frozenset(now.values())
            owner = self._seen.get(next(iter(members)), frozenset())
            self.trusted = frozenset({0, os.geteuid()}) | owner

    def _users(self, members: Collection[ProcessId]) -> dict[ProcessId, int]:
        """Ask young processes each time, for servers change their user soon after a fork, and all others seldom."""
        now_s = time.monotonic()
        last, self._asked = self._asked, {}
        for process in members:
            asked = last.get(process)
            if asked is None or now_s >= asked.next_s:
                first_s = now_s if asked is None else asked.first_s
                pause_s = 0.0 if now_s - first_s < _YOUNG_S else _ASK_EVERY_S
                asked = _Asked(first_s, now_s + pause_s, effective_user(process))
            self._asked[process] = asked
        return {process: asked.user for process, asked in self._asked.items() if asked.user is not None}

    def may_report_process(self, user: int, process: ProcessId) -> bool:
        """Return True if what this user's files say of the process counts.

        Of a process that was never seen alive nobody knows whose it was: those who run the server may have had it.
        """
        seen = self._seen.get(process)
        if seen is not None:
            return user in seen
        return user in self.trusted | self._living and not self._lives(process)

    def may_report_lock(self, user: int, lock: SemId) -> bool:
        """Return True if this user's processes map the lock, or may map it."""
        if user in self.trusted or self._mapped is None:
            return True
        key = user, lock
        if key not in self._may_report_lock:
            known = (*self._mapped.of.get(lock, ()), *self._mapped.unknown)
            self._may_report_lock[key] = any(user in self._users_of(process) for process in known)
        return self._may_report_lock[key]

    def may_name(self, user: int, lock: SemId) -> bool:
        """Return True if a name that only this user gives may stand for the lock: nobody else has part in it."""
        if user in self.trusted:
            return True
        mappers = () if self._mapped is None else self._mapped.of.get(lock, ())
        return bool(mappers) and all(self._users_of(process) == {user} for process in mappers)

    def _users_of(self, process: ProcessId) -> frozenset[int]:
        if process not in self._seen:  # a guest: a process outside the server that maps one of its locks
            user = effective_user(process)
            return frozenset() if user is None else frozenset({user})
        return self._seen[process]

    def _lives(self, process: ProcessId) -> bool:
        """Return True if it lives. Only so many are asked between two scans: a hostile server could name any number."""
        if process not in self._strangers:
            self._strangers[process] = len(self._strangers) >= MOST_STRANGERS or still(process)
        return self._strangers[process]
