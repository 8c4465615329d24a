"""The rows of file locks in the table of locks: since when each is held and waited for, and what is amiss with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from semtrace.lazydata import dataclass
from semtrace.linux.filelocks import count_open, filesystem_of, is_mounted
from semtrace.linux.sweep import sees_all_processes
from semtrace.model import FileClaim, FileLockType, Holder, Lock, LockedFile, LockState, ProcessId, SemId, Waiter
from semtrace.observe.files.filenames import LostLock
from semtrace.observe.files.filewaits import FileWait, Held, is_shared
from semtrace.observe.history.history import Since, longer
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.watch.watched import Watched

FILE = "file"
_DELETED = " (deleted)"
# Of a lock that was held for so long it is asked who else has the open file.
_LONG_S = 0.5
# How often it is asked how many times a file is open.
_OPEN_AGAIN_S = 10.0
# The layers of a container, and memory: each container has its own.
_OWN_LAYERS, _OWN_MEMORY = "overlay", "tmpfs"
_INIT = 1
_UNSEEN = "its holder is outside this PID namespace, where the kernel hides file locks: run semtrace on the host"
_NOT_FOUND = "its holder was not found among the processes that can be read"

Members = Mapping[int, Watched]


@dataclass(frozen=True)
class FileState:
    """Facts about one file now; `path` and `name` are None where nothing shows them."""

    file: SemId
    path: str | None
    name: str | None
    held: Sequence[Held] = ()
    waiting: Sequence[FileWait] = ()
    lost: Sequence[LostLock] = ()

    @property
    def holding(self) -> tuple[ProcessId, ...]:
        found = {each.process for one in self.held for each in one.claims if each.process is not None}
        found |= {process for wait in self.waiting if wait.type is FileLockType.SOFT for process in wait.holders}
        return tuple(sorted(found))

    @property
    def involved(self) -> tuple[ProcessId, ...]:
        """Everybody who holds it, waits for it or has lost it."""
        others = (each.thread.process for each in self.waiting)
        return tuple(sorted({*self.holding, *others, *(each.process for each in self.lost)}))


class _System(NamedTuple):
    """The file system of a file, and whether only the server's container has it."""

    name: str | None
    local: bool


class FileRows:
    """Keep the clocks, refresh after refresh."""

    def __init__(self) -> None:
        self.sleepers = Sleepers()
        self.long_held: frozenset[SemId] = frozenset()
        self._holding: Since[tuple[SemId, ProcessId]] = Since()
        self._waiting: Since[tuple[SemId, object]] = Since()
        self._open: dict[tuple[SemId, ProcessId], tuple[float | None, int]] = {}
        self._systems: dict[SemId, _System] = {}

    def read(self, now_s: float, states: Iterable[FileState], members: Members) -> tuple[Lock, ...]:
        """Return a row for each file that processes of the server hold, wait for or have lost."""
        known = {each.file: each for each in states}
        holding = {file: each.holding for file, each in known.items()}
        waits = [wait for each in known.values() for wait in each.waiting]
        self._systems = {file: system for file, system in self._systems.items() if file in known}
        self._open = {key: asked for key, asked in self._open.items() if key[0] in known}
        self._holding.update(now_s, [(file, process) for file, all_ in holding.items() for process in all_])
        self._waiting.update(now_s, [(wait.file, wait.thread) for wait in waits])
        self.long_held = frozenset(
            file
            for file, all_ in holding.items()
            if any((self._holding.seconds(now_s, (file, each)) or 0.0) >= _LONG_S for each in all_)
            and is_shared([one.lock for one in known[file].held])
        )
        single = [(p, p.pid) for all_ in holding.values() for p in all_ if _is_single(p, members)]
        self.sleepers.update(now_s, {*single, *((each.thread.process, each.thread.tid) for each in waits)})
        rows = (self._row(now_s, known[file], holding[file], members) for file in sorted(known))
        return tuple(row for row in rows if row is not None)

    def _row(self, now_s: float, state: FileState, holding: Sequence[ProcessId], members: Members) -> Lock | None:
        holders = tuple(self._holder(now_s, state.file, process, members) for process in holding)
        if not state.waiting and not state.lost and not any(holder.pid in members for holder in holders):
            return None
        waiters = sorted((self._waiter(now_s, each) for each in state.waiting), key=lambda each: -(each.for_s or 0.0))
        unseen = any(each.unseen for each in state.waiting)
        unknown = not holders and (any(each.unknown for each in state.held) or bool(state.waiting))
        return Lock(
            id=state.file,
            kind=FILE,
            state=_state(unknown, waiters, holders),
            value=None,
            maximum=None,
            name=state.name,
            holders=holders,
            waiters=tuple(waiters),
            mapped_by=state.involved,
            reason=(_UNSEEN if unseen else _NOT_FOUND) if unknown else None,
            file=self._file(now_s, state, members),
        )

    def _file(self, now_s: float, state: FileState, members: Members) -> LockedFile:
        claims = tuple(claim for each in state.held for claim in each.claims)
        deleted = state.path is not None and state.path.endswith(_DELETED)
        owner = next((each.owner for each in state.waiting if each.owner is not None), None)
        kinds = [(claim.type, claim.exclusive) for claim in claims]
        kinds += [(wait.type, wait.exclusive) for wait in state.waiting]
        kind, exclusive = kinds[0] if kinds else (FileLockType.POSIX, True)
        system = self._system(state, members)
        return LockedFile(
            state.path.removesuffix(_DELETED) if state.path is not None else None,
            kind,
            exclusive,
            deleted,
            claims,
            tuple(self._open_twice(now_s, state, claims, members)),
            owner.pid if owner is not None and owner.ended else None,
            owner.host if owner is not None and owner.elsewhere else None,
            tuple(each.process for each in state.lost),
            system.name,
            system.local,
        )

    def _open_twice(
        self, now_s: float, state: FileState, claims: Collection[FileClaim], members: Members
    ) -> Iterator[ProcessId]:
        """Yield who would lose its POSIX lock by closing another descriptor of the file. Databases lock single bytes,
        and know that.
        """
        for claim in claims:
            whole = (claim.type, claim.exclusive, claim.start, claim.end) == (FileLockType.POSIX, True, 0, None)
            process = claim.process
            if not whole or state.path is None or process is None or process.pid not in members:
                continue
            if (self._holding.seconds(now_s, (state.file, process)) or 0.0) < _LONG_S:
                continue
            asked_s, times = self._open.get((state.file, process), (None, 0))
            if asked_s is None or now_s - asked_s >= _OPEN_AGAIN_S:
                times = count_open(process.pid, state.file, state.path)
                self._open[state.file, process] = now_s, times
            if times > 1:
                yield process

    def _system(self, state: FileState, members: Members) -> _System:
        if state.file not in self._systems:
            pid = next((each.pid for each in state.involved if each.pid in members), None)
            self._systems[state.file] = _System(None, False) if pid is None else _system_of(pid, state.file)
        return self._systems[state.file]

    def _holder(self, now_s: float, file: SemId, process: ProcessId, members: Members) -> Holder:
        single = _is_single(process, members)
        asleep_s = self.sleepers.seconds((process, process.pid)) if single else None
        since_s = longer(self._holding.seconds(now_s, (file, process)), asleep_s)
        return Holder(process, process.pid if single else None, 1, since_s, asleep_s=asleep_s)

    def _waiter(self, now_s: float, wait: FileWait) -> Waiter:
        thread, poller = wait.thread, wait.poller
        seen_s = self._waiting.seconds(now_s, (wait.file, thread))
        if poller is not None:
            asleep_s = poller.for_s if poller.unbroken else None
            return Waiter(
                thread.process, thread.tid, longer(seen_s, poller.for_s), asleep_s=asleep_s, timed=poller.polling.timed
            )
        asleep_s = self.sleepers.seconds((thread.process, thread.tid))
        return Waiter(thread.process, thread.tid, longer(seen_s, asleep_s), asleep_s=asleep_s)


def _state(unknown: bool, waiters: Sequence[Waiter], holders: Sequence[Holder]) -> LockState:
    if unknown:
        return "unknown"
    return "contended" if waiters else "held" if holders else "free"


def _system_of(pid: int, file: SemId) -> _System:
    name = filesystem_of(pid, file)
    contained = not sees_all_processes() or is_mounted(_INIT, file) is False
    return _System(name, contained and name in (_OWN_LAYERS, _OWN_MEMORY))


def _is_single(process: ProcessId, members: Members) -> bool:
    member = members.get(process.pid)
    return member is not None and member.stat.threads == 1
