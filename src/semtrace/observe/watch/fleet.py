"""All processes of a server under watch, and who of them maps which semaphore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semtrace.allowance import Allowance
from semtrace.linux.process import Stat, read_stat
from semtrace.model import ProcessId, SemId
from semtrace.observe.watch.watched import Watched
from semtrace.servers.tree import Member


class Fleet:
    """`mappers` are in the order of the members, the root first, then guests, and `ids` the same as identities.
    `hidden` are those whose mappings are not known: each may hold any lock. All are determined again only when there is
    a change.

    A guest is a process outside the server that maps a lock of the server, as one that has daemonised. It takes part in
    everything that concerns these locks, and is not a member otherwise.
    """

    def __init__(self) -> None:
        self.mappers: dict[SemId, list[Watched]] = {}
        self.ids: dict[SemId, tuple[ProcessId, ...]] = {}
        self.hidden: tuple[ProcessId, ...] = ()
        self._watched: dict[ProcessId, Watched] = {}
        self._guests: dict[ProcessId, Watched] = {}
        self._invited: dict[ProcessId, Watched] = {}

    def __getitem__(self, process: ProcessId) -> Watched:
        return self._watched.get(process) or self._guests[process]

    def get(self, process: ProcessId) -> Watched | None:
        """Return None for a guest that has ended since the locks were read."""
        return self._watched.get(process) or self._guests.get(process)

    def parent_of(self, watched: Watched) -> Watched | None:
        """Return the process that has this child now, if it is watched."""
        pid, born = watched.stat.ppid, watched.id.start_ticks
        return next((w for w in self.with_guests if w.id.pid == pid and w.id.start_ticks <= born), None)

    @property
    def all(self) -> list[Watched]:
        """The members."""
        return list(self._watched.values())

    @property
    def with_guests(self) -> list[Watched]:
        return [*self._watched.values(), *self._guests.values()]

    def close(self) -> None:
        for watched in (*self.with_guests, *self._invited.values()):
            watched.close()
        for kept in (self._watched, self._guests, self._invited):
            kept.clear()

    def invite(self, pid: int) -> bool:
        """Watch a process outside the server from the next refresh on, if it maps a lock of the server then. Return
        False if it cannot be read.
        """
        stat = read_stat(pid)
        if stat is None or stat.id in self._guests.keys() | self._invited.keys():
            return True
        guest = Watched(stat)
        if guest.memory is None or guest.hidden:
            guest.close()
            return False
        self._invited[stat.id] = guest
        return True

    def follow(self, members: Sequence[Member], now_s: float) -> bool:
        """Open new processes, close ended ones, and look for new semaphores. True if there is a change in who maps
        what.
        """
        current = {member.id: member.stat for member in members}
        beating = {member.id for member in members if member.heartbeat_path is not None}
        gone = self._watched.keys() - current.keys()
        # Open files in /proc stay bound to the program that they were opened on. A spawned child is a fork for a
        # moment, so it is opened again after its exec.
        known = self._watched.keys() & current.keys()
        gone |= {each for each in known if _has_become_another(self._watched[each].stat, current[each])}
        for process in gone:
            self._watched.pop(process).close()
        changed = bool(gone)
        for process, stat in current.items():
            if process not in self._watched:
                was_guest = process in self._guests
                self._watched[process] = self._guests.pop(process) if was_guest else Watched(stat)
                changed |= was_guest or self._watched[process].hidden
            self._watched[process].stat = stat
            self._watched[process].beats = process in beating
            changed |= self._watched[process].relist(now_s)
        if self._guests or self._invited:
            changed |= self._follow_guests(now_s)
        if changed:
            self._watched = {process: self._watched[process] for process in current}
            self.adopt()
            self._map()
        return changed

    def relist(self, stale: Iterable[Watched], now_s: float) -> None:
        """List at once what these processes map, which was found to have changed."""
        for watched in stale:
            watched.relist(now_s, at_once=True)
        self.adopt()
        self._map()

    def _follow_guests(self, now_s: float) -> bool:
        """Keep the guests that live and map a lock of the server. Return True if there is a change."""
        changed = bool(self._invited)
        for process, guest in self._invited.items():
            if process in self._watched or process in self._guests:
                guest.close()
            else:
                self._guests[process] = guest
        self._invited.clear()
        ours = {semaphore for watched in self._watched.values() for semaphore in watched.semaphores}
        for process, guest in list(self._guests.items()):
            stat = read_stat(process.pid)
            lives = stat is not None and stat.id == process and not stat.ended
            if stat is not None and lives and not _has_become_another(guest.stat, stat):
                guest.stat = stat
                changed |= guest.relist(now_s)
                if not guest.hidden and guest.semaphores.keys() & ours:
                    continue
            self._guests.pop(process).close()
            changed = True
        return changed

    def search(self, now_s: float, budget_s: float, wanted: Mapping[Watched, Mapping[SemId, float]]) -> bool:
        """Search for SemLock objects that are lacking, no longer than the budget; the rest goes on in the next
        refresh.

        `wanted` asks for whole searches for a semaphore that begin after a time. True if objects were found.
        """
        allowance = Allowance(budget_s)
        found = False
        everybody = self.with_guests
        for watched in everybody:
            known = watched.learned
            while allowance.lasts() and watched.continue_search(now_s, wanted.get(watched, {}), everybody):
                pass
            if watched.learned != known:
                found = True
                self.adopt()
        return found

    def lacks(self, semaphore: SemId) -> bool:
        """Return True if no process has shown a SemLock object for it yet."""
        return not any(semaphore in watched.objects for watched in self.mappers[semaphore])

    def adopt(self) -> None:
        """Let every process take over the objects that its relatives have, its parent's first."""
        able: list[Watched] = []
        for watched in self.with_guests:
            if watched.lacking():
                watched.adopt(sorted(able, key=lambda other: other.id.pid != watched.stat.ppid))
            if watched.objects:
                able.append(watched)

    def _map(self) -> None:
        self.hidden = tuple(watched.id for watched in self._watched.values() if watched.hidden)
        mappers: dict[SemId, list[Watched]] = {}
        for watched in self._watched.values():
            for semaphore in watched.semaphores:
                mappers.setdefault(semaphore, []).append(watched)
        for guest in self._guests.values():
            for semaphore in guest.semaphores.keys() & mappers.keys():
                mappers[semaphore].append(guest)
        self.mappers = dict(sorted(mappers.items()))
        self.ids = {semaphore: tuple(w.id for w in who) for semaphore, who in self.mappers.items()}


def _has_become_another(before: Stat, now: Stat) -> bool:
    """Return True if an exec has replaced the program: a process keeps its PID and its start time then."""
    return before.forked and not now.forked
