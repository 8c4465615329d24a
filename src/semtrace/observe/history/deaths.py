"""Watch how processes of a server end: their exit codes by pidfd, and what the last snapshot before showed of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.linux.pidfd import Pidfd, kills_in, out_of_memory_kills
from semtrace.model import Death, DeathCause, HeldAtDeath, ProcessId, Role, Server, Snapshot, place_of

# The newest stay in the snapshots, for so long.
MOST_KEPT = 64
_KEPT_S = 600.0
# A process whose end is still unknown after this time was reaped by a kernel that does not say it.
_PATIENCE_S = 3.0
# More workers than these have no descriptor of their own.
_MOST_WATCHED = 512

_LAST_SAMPLES, _LAST_PAUSE_S = 5, 0.01

_SIGKILL = -9
# gunicorn/arbiter.py murder_workers: first SIGABRT, on which a worker exits with 1 (workers/base.py handle_abort), or
# with 0 if the application or the worker catches it. SIGKILL follows at its next check, a second later.
_BY_TIMEOUT = (None, 0, 1, -6, _SIGKILL)
# A snapshot shortly before the death shows nearly all of the silence.
_NEARLY = 0.9


@dataclass(frozen=True)
class _Watched:
    pidfd: Pidfd
    role: Role
    parent: int
    memory: tuple[str, int] | None


@dataclass(frozen=True)
class _Found:
    """One that has ended: when that was found, how long after the last snapshot before, and whether its exit code may
    still come.
    """

    death: Death
    at_s: float
    unseen_s: float
    pidfd: Pidfd | None
    memory: tuple[str, int] | None = None


class Deaths:
    """`update` takes every refresh, `note` every snapshot, in their order; `close` gives the descriptors back."""

    def __init__(self) -> None:
        self._watched: dict[ProcessId, _Watched] = {}
        self._unwatchable: set[ProcessId] = set()
        self._found: list[_Found] = []
        self._held: Mapping[ProcessId, tuple[HeldAtDeath, ...]] = {}
        self._beats: Mapping[ProcessId, float] = {}  # the last one of each that was seen
        self._noted_s = 0.0

    @property
    def fds(self) -> list[int]:
        """Return descriptors that can be read once their processes have ended."""
        return [watched.pidfd.fd for watched in self._watched.values()]

    def update(self, now_s: float, server: Server, members: Mapping[ProcessId, tuple[Role, int]]) -> tuple[Death, ...]:
        """Return the deaths until now, the newest last. `members` are those that live, with their roles and parents."""
        for process in [process for process in self._watched if process not in members]:
            self._leave(now_s, process)
        for process, (role, parent) in members.items():
            if process not in self._watched and process not in self._unwatchable:
                self._watch(process, role, parent)
        self._unwatchable.intersection_update(members)
        self._found = [self._again(now_s, server, each) for each in self._found if now_s - each.at_s < _KEPT_S]
        self._found = self._found[-MOST_KEPT:]
        return tuple(replace(each.death, ended_s=max(now_s - each.at_s, 0.0)) for each in self._found)

    def last(self, now_s: float, server: Server) -> tuple[Death, ...]:
        """Return the deaths of all that were left. The process that started the server may take a moment to reap it."""
        deaths = self.update(now_s, server, {})
        for _ in range(_LAST_SAMPLES):
            if not any(self._open()):
                break
            time.sleep(_LAST_PAUSE_S)
            deaths = self.update(now_s, server, {})
        return deaths

    def note(self, snapshot: Snapshot) -> None:
        """Remember what to say of a process if it ends before the next snapshot."""
        held: dict[ProcessId, list[HeldAtDeath]] = {}
        for lock in snapshot.locks:
            for holder in lock.holders if not lock.signal else ():
                one = HeldAtDeath(lock.id, lock.label, holder.tid, place_of(holder))
                held.setdefault(holder.process, []).append(one)
        self._held = {process: tuple(several) for process, several in held.items()}
        self._beats = dict(self._beats_in(snapshot))
        self._noted_s = snapshot.monotonic_s

    def close(self) -> None:
        for pidfd in (*(each.pidfd for each in self._watched.values()), *self._open()):
            pidfd.close()
        self._watched.clear()

    def _beats_in(self, snapshot: Snapshot) -> Iterator[tuple[ProcessId, float]]:
        """Yield when each has beaten last. One that is about to end has no file for that any more."""
        for process in snapshot.processes:
            if process.last_heartbeat_s is not None:
                yield process.id, snapshot.monotonic_s - process.last_heartbeat_s
            elif process.id in self._beats:
                yield process.id, self._beats[process.id]

    def _open(self) -> Iterator[Pidfd]:
        return (each.pidfd for each in self._found if each.pidfd is not None)

    def _watch(self, process: ProcessId, role: Role, parent: int) -> None:
        if len(self._watched) >= _MOST_WATCHED:
            return
        try:
            self._watched[process] = _Watched(Pidfd(process), role, parent, out_of_memory_kills(process.pid))
        except OSError:  # it has just ended, or this kernel has none
            self._unwatchable.add(process)

    def _leave(self, now_s: float, process: ProcessId) -> None:
        """Remove a member that has ended, or has become another program."""
        watched = self._watched.pop(process)
        if not watched.pidfd.ended:
            watched.pidfd.close()
            return
        beat_s = self._beats.get(process)
        death = Death(
            process,
            watched.role,
            DeathCause.UNKNOWN,
            None,
            0.0,
            self._held.get(process, ()),
            None if beat_s is None else self._noted_s - beat_s,
            watched.parent,
        )
        self._found.append(_Found(death, now_s, now_s - self._noted_s, watched.pidfd, watched.memory))

    def _again(self, now_s: float, server: Server, found: _Found) -> _Found:
        """Ask once more how it ended: that is known once its parent has reaped it."""
        if found.pidfd is None:
            return found
        code = found.pidfd.exit_code()
        if code is None and now_s - found.at_s < _PATIENCE_S:
            return found
        found.pidfd.close()
        short_of_memory = _was_short_of_memory(found.memory)
        cause = cause_of(code, found.death.silent_s, found.unseen_s, server.timeout_s, short_of_memory)
        return _Found(replace(found.death, exit_code=code, cause=cause), found.at_s, found.unseen_s, None)


def cause_of(
    code: int | None, silent_s: float | None, unseen_s: float, timeout_s: float | None, short_of_memory: bool
) -> DeathCause:
    """Return what ended a process that had been silent for `silent_s` in its last snapshot, `unseen_s` before it was
    found to have ended. Where gunicorn's timeout passed between the two, nobody knows.
    """
    if code in (None, _SIGKILL) and short_of_memory:
        return DeathCause.UNKNOWN if code is None else DeathCause.MEMORY
    if timeout_s and silent_s is not None and code in _BY_TIMEOUT:
        if silent_s >= _NEARLY * timeout_s:
            return DeathCause.TIMEOUT
        if silent_s + unseen_s >= timeout_s:
            return DeathCause.UNKNOWN
    if code is None:
        return DeathCause.UNKNOWN
    return DeathCause.SIGNAL if code < 0 else DeathCause.EXIT


def _was_short_of_memory(before: tuple[str, int] | None) -> bool:
    if before is None:
        return False
    now = kills_in(before[0])
    return now is not None and now > before[1]
