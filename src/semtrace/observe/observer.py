"""Take snapshots of one server: who its processes are, which semaphores they share, who holds and who waits.

An Observer keeps what it learned between snapshots, so that the first costs a search of the server's memory and each
further one some hundred microseconds. It only reads: no ptrace, no signal, no pause.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from semtrace.allowance import Allowance
from semtrace.cpython.name_walk import Named
from semtrace.lazydata import replace
from semtrace.linux import files
from semtrace.linux.process import read_stat
from semtrace.linux.rights import refused
from semtrace.linux.shm import ShmDirectory
from semtrace.linux.sweep import Obstacle
from semtrace.model import SEM_VALUE_MAX, Lock, Problem, ProcessId, SemId, Server, Snapshot, Tracing
from semtrace.observe.blocked.knots import Knots
from semtrace.observe.evidence.verdict import Claim, Reading, Verdict, judge, with_settled
from semtrace.observe.files.filelocks import FileLocks, FileLocksSeen
from semtrace.observe.history.deaths import Deaths
from semtrace.observe.history.lastpicture import LastPicture
from semtrace.observe.history.resting import KNOWN_AFTER_S, resting, still_resting
from semtrace.observe.history.trackers import Lives
from semtrace.observe.judge import composites
from semtrace.observe.judge.baselines import Baselines, Rounds
from semtrace.observe.judge.composites import Part
from semtrace.observe.judge.heirs import Heirs
from semtrace.observe.judge.prover import Judged, Prover
from semtrace.observe.names.namebook import NameBook
from semtrace.observe.names.ownership import Ownership
from semtrace.observe.names.separate import count_separate
from semtrace.observe.picture import Picture
from semtrace.observe.private.threadlocks import ThreadLocks
from semtrace.observe.watch import reading
from semtrace.observe.watch.activity import Activity
from semtrace.observe.watch.fleet import Fleet
from semtrace.observe.watch.marks import marks_of
from semtrace.observe.watch.watched import Watched
from semtrace.rules import USUAL, Limits, with_findings
from semtrace.servers.gunicorn_memory import effective
from semtrace.servers.tree import Member, Tree
from semtrace.tracing.polling import StateFilePoller, TraceSource
from semtrace.tracing.reporters import Mapped

# How long one refresh may search memory; what is left goes on in the next.
SEARCH_BUDGET_S = 0.15
# The same for a command that shows nothing before it is done.
LONG_SEARCH_BUDGET_S = 0.4
# The search of memory gets such a part of a refresh that takes long because of its many locks. In the first refresh it
# gets such a time for each lock that has to be found.
_SEARCH_SHARE = 0.3
_SEARCH_EACH_S = 1e-4

# New settings bring new workers; but many workers that come and go bring no new settings.
_SETTINGS_S = 1.0

_SETTLE_PAUSE_S = 0.01
_STARVED = 5  # a command waits no longer than so many times its patience, however little it gets of a processor

_SAMPLES_OF_FREE = 4
_SAMPLE_PAUSE_S = 0.001

# How often a lock is read again whose processes were found to map something else by now.
_MOST_STALE = 4

# How often all processes are listed again of which some were born while the locks were read.
_MOST_BIRTHS = 3


class Observer:
    """Observer of one server, for one thread at a time. `close` closes its files.

    `all_thread_locks` asks for the `threading` locks of libraries too, not only of the user's own modules.
    `trace_source` reads the traced locks; it is closed with the observer. Without `names_at_once` the modules are
    walked only once something waits or is found: they take half the time of a first snapshot.
    """

    def __init__(
        self,
        server: Server,
        *,
        search_budget_s: float = SEARCH_BUDGET_S,
        all_thread_locks: bool = False,
        trace_source: TraceSource | None = None,
        limits: Limits = USUAL,
        names_at_once: bool = True,
    ) -> None:
        files.allow_many()
        self.server = server
        self._limits = limits
        self._began_s = time.monotonic()
        self._budget_s = search_budget_s
        self._tree = Tree(server)
        self._fleet = Fleet()
        self._directories = (ShmDirectory(server.pid), ShmDirectory())
        self._book = NameBook(server.id, all_thread_locks)
        self._naming = names_at_once
        self._names: dict[SemId, tuple[Named, ...]] = {}
        self._parts: dict[SemId, Part] = {}
        self._baselines: dict[SemId, Baselines] = {}
        self._heirs = Heirs()
        self._prover = Prover(self._judge_now, self._baselines, self._linked, self._fleet.invite, self._fleet.parent_of)
        self._ownership = Ownership()
        self._thread_locks = ThreadLocks(self._book)
        self._picture = Picture(self._fleet, self._directories, self._baselines)
        self._lives = Lives()
        self._traced = trace_source or StateFilePoller()
        self._file_locks = FileLocks()
        self._files = FileLocksSeen()
        self._knots = Knots(self._fleet, self._book, self._linked)
        self._last = LastPicture()
        self._deaths = Deaths()
        self._unread: tuple[Problem, ...] = ()
        self._end: Snapshot | None = None
        self._searching: bool | None = None  # asked once in a refresh, and only where it matters
        self._now_s = 0.0
        self._cost_s = 0.0
        self._rounds = Rounds()
        self._workers: frozenset[ProcessId] | None = None
        self._settings_due_s = 0.0

    def close(self) -> None:
        self._fleet.close()
        self._traced.close()
        self._deaths.close()

    def snapshot(self) -> Snapshot:
        """The server as it is now; once it has ended its last picture, from before its workers went, with `alive`
        False. Never raises for what a target does.
        """
        cpu_before = time.thread_time()
        self._now_s = time.monotonic()
        members = self._tree.refresh()
        if not members:
            return self._ended()
        self._learn_settings(members)
        self._learn_members(members)
        self._lives.update(self._now_s, (member.id for member in members))
        self._searching = None
        self._rounds.begin(self._now_s)
        judged = {semaphore: self._judge_now(semaphore) for semaphore in self._fleet.mappers}
        members = self._with_newborn(members, judged)
        self._with_openers(members, judged)
        judged = {semaphore: each for semaphore, each in judged.items() if semaphore in self._fleet.mappers}
        suspects = {semaphore for semaphore, each in judged.items() if each.verdict.doubtful}
        self._prover.prove(self._now_s, judged, self._fleet.mappers)
        members = self._with_newborn(members, judged, suspects)
        judged = {semaphore: each for semaphore, each in judged.items() if semaphore in self._fleet.mappers}
        snapshot = self._compose(members, judged)
        self._prover.note_waiters(self._now_s, snapshot.semaphores)
        self._rounds.end(time.monotonic())
        snapshot = with_findings(self._knots.judge(snapshot, self._files.waits), self._limits)
        self._cost_s = time.thread_time() - cpu_before
        snapshot = replace(snapshot, cost_s=self._cost_s)
        self._naming |= _asks_for_names(snapshot)
        self._last.add(snapshot)
        self._deaths.note(snapshot)
        return snapshot

    @property
    def ends(self) -> list[int]:
        """Return descriptors that can be read once a process of the server has ended."""
        return self._deaths.fds

    def undecided(self) -> bool:
        """Return True while a search, a walk for names or a proof is under way: a later snapshot may know more."""
        return self._prover.unproved or self.unread()

    def unread(self) -> bool:
        """Return True while memory is still to be read, which takes as long as the processors let us."""
        return (
            self._searches()
            or self._book.unvisited
            or self._ownership.pending
            or self._knots.unfinished
            or self._file_locks.unfinished
        )

    def unnamed(self) -> bool:
        """Return True while the names of locks that workers have made for themselves are soon looked for again."""
        return self._book.walks_again(self._fleet.all, self._names)

    def marks(self) -> object | None:
        """Return what is another value as soon as a thread of the server has run or a semaphore has changed. None: that
        is not known, or a further snapshot soon would know more.
        """
        return None if self.undecided() else marks_of(self._fleet)

    def deciding(self) -> bool:
        """Return True while a further snapshot soon may find that something is stuck; names may still be unknown."""
        return self._prover.unproved or self._searches() or self._knots.unfinished

    def _searches(self) -> bool:
        """Return True while the memory of a process is searched for SemLock objects for the first time."""
        return any(watched.searches_soon(self._now_s) for watched in self._fleet.all)

    def restart_proofs(self) -> None:
        """Prove orphaned locks only by what is seen from now on: for a caller who is about to act on it."""
        self._prover.forget()

    def obstacle(self, semaphore: SemId) -> Obstacle | None:
        """Ask every process now; return why others than the server's own processes may hold it, None if excluded."""
        return self._prover.obstacle(semaphore, self._fleet.mappers.get(semaphore, ()))

    def is_searching(self, semaphore: SemId) -> bool:
        """Return True while the proof that it is orphaned waits for the search of memory."""
        return self._prover.is_searching(semaphore, self._fleet.mappers.get(semaphore, ()))

    def searches_for_proof(self) -> bool:
        """Return True while any proof waits for the search of memory."""
        return any(self._prover.is_searching(semaphore, who) for semaphore, who in self._fleet.mappers.items())

    def is_suspect(self, semaphore: SemId) -> bool:
        """Return True if one sample now shows it locked and claimed by nobody."""
        return semaphore in self._fleet.mappers and self._judge_now(semaphore).verdict.suspect

    def _ended(self) -> Snapshot:
        """It stays the same from then on."""
        if self._end is None:
            deaths = self._deaths.last(self._now_s, self.server)
            self.close()
            nothing = Snapshot(self.server, time.time(), self._now_s, (), (), alive=False)
            self._end = replace(self._last.ended(self._now_s) or nothing, deaths=deaths)
        return self._end

    # -- who and what there is

    def _learn_settings(self, members: Sequence[Member]) -> None:
        """Read a gunicorn's settings again when its workers are others, as after a HUP."""
        workers = frozenset(member.id for member in members if member.role == "worker")
        if self._workers is None:
            self._workers = workers  # the search for the server has just read them
        if workers != self._workers and self._now_s >= self._settings_due_s:
            self._workers, self._settings_due_s = workers, self._now_s + _SETTINGS_S
            self.server = effective(self.server)

    def _with_newborn(
        self, members: tuple[Member, ...], judged: dict[SemId, Judged], among: set[SemId] | None = None
    ) -> tuple[Member, ...]:
        """Judge again what processes map that were born since all were listed: a child may hold what it has released
        for its parent, and units of a Semaphore. Return all members, also those that have ended since.
        """
        for attempt in range(_MOST_BIRTHS + 1):
            born = self._tree.newborn()
            if not born:
                break
            members = (*members, *born)
            self._fleet.follow(members, self._now_s)
            shared = self._shared_with({member.id for member in born})
            for semaphore in shared & judged.keys() & (judged.keys() if among is None else among):
                if judged[semaphore].depends_on_newborn:
                    again = self._judge_now(semaphore) if attempt < _MOST_BIRTHS else _in_flux(judged[semaphore])
                    judged[semaphore] = again
        return members

    def _with_openers(self, members: tuple[Member, ...], judged: dict[SemId, Judged]) -> None:
        """Judge Semaphores again that somebody has opened by name since the mappings were listed: who holds units now
        had it mapped when it was read.
        """
        named = {s for s in self._linked() if s in judged and judged[s].depends_on_openers}
        if not named:
            return
        before = {semaphore: self._fleet.ids.get(semaphore) for semaphore in named}
        stats = {member.id: read_stat(member.pid) for member in members}
        fresh = {process: stat for process, stat in stats.items() if stat is not None and stat.id == process}
        self._fleet.follow([replace(each, stat=fresh.get(each.id, each.stat)) for each in members], self._now_s)
        for semaphore in named:
            if self._fleet.ids.get(semaphore) != before[semaphore]:
                judged[semaphore] = self._judge_now(semaphore)

    def _shared_with(self, processes: set[ProcessId]) -> set[SemId]:
        """Return what any of these maps, or all if that cannot be known."""
        if not processes.isdisjoint(self._fleet.hidden):
            return set(self._fleet.mappers)
        return {semaphore for semaphore, who in self._fleet.ids.items() if not processes.isdisjoint(who)}

    def _learn_members(self, members: Sequence[Member]) -> None:
        changed = self._fleet.follow(members, self._now_s)
        if not self._book.unvisited:  # a name spares the search for an owner
            self._ownership.want(self._fleet.mappers)
        lacking = sum(map(self._fleet.lacks, self._fleet.mappers))
        budget_s = max(self._budget_s, _SEARCH_SHARE * self._cost_s, _SEARCH_EACH_S * lacking)
        changed |= self._fleet.search(self._now_s, budget_s, self._prover.wanted(self._fleet.mappers))
        if self._naming and self._book.update(self._now_s, self._fleet.all, self._names):
            self._fleet.adopt()  # a walk has met objects of one process, which spares the search of its children
            changed = True
        if changed:
            self._name_and_group()

    def _name_and_group(self) -> None:
        """Put the names to the semaphores; those without one are grouped by the objects that refer to them."""
        mappers = self._fleet.mappers
        found = {semaphore: self._book.names(semaphore, who) for semaphore, who in mappers.items()}
        self._names = {semaphore: names for semaphore, names in found.items() if names}
        made = []
        for semaphore in mappers.keys() - self._names.keys():
            how, value = reading.made(semaphore, mappers[semaphore]), reading.value_of(semaphore, mappers[semaphore])
            if how is not None and value is not None:
                made.append(composites.Made(semaphore, how.kind, how.maxvalue, value[0]))
        self._ownership.unnamed(mappers.keys() - self._names.keys())
        self._parts = self._ownership.parts(made, mappers, self._fleet.ids)
        for semaphore, names in self._names.items():
            # A signal stays one where a shorter name leads to it too.
            named = next((each for each in names if each.owner and composites.is_signal(each.name)), names[0])
            if named.owner is not None:
                attribute = named.name.rpartition(".")[2]
                signal = composites.is_signal(attribute)
                self._parts[semaphore] = Part(named.owner, signal, named.owner_kind, attribute)
        for gone in self._baselines.keys() - mappers.keys():
            del self._baselines[gone]
        self._heirs.keep(mappers)
        for semaphore, baselines in self._baselines.items():
            baselines.keep({watched.id for watched in mappers[semaphore]})

    # -- one lock

    def _judge_now(self, semaphore: SemId) -> Judged:
        """Judge one lock. What was read where another lock lies by now is not believed, but read again."""
        for _ in range(_MOST_STALE):
            read, waiters = self._read(semaphore)
            stale = self._stale(semaphore, read.claims)
            if not stale:
                return Judged(read, self._verdict(semaphore, read), waiters)
            self._fleet.relist(stale, self._now_s)
        return Judged(read, Verdict("unknown", reason="in flux: it was mapped elsewhere in every sample"), waiters)

    def _stale(self, semaphore: SemId, claims: Iterable[Claim]) -> list[Watched]:
        """Return the processes of a reading that no longer map the lock where they had it. Only those count that gave
        the value or have counts.
        """
        counting = {claim.process for claim in claims if claim.count}
        mappers = self._fleet.mappers.get(semaphore, ())
        source = next((watched for watched in mappers if watched.memory is not None), None)
        others = (each for each in mappers if each.id in counting and each is not source) if counting else ()
        return [each for each in (source, *others) if each is not None and not each.still_maps(semaphore)]

    def _read(self, semaphore: SemId) -> tuple[Reading, int]:
        """Read the lock, and glibc's count of its waiters."""
        mappers = self._fleet.mappers.get(semaphore, ())
        how = reading.made(semaphore, mappers)
        found = reading.value_of(semaphore, mappers) or self._value_by_name(semaphore)
        value, waiters = found or (None, 1)
        if how is None or value is None:
            if self._searching is None:
                self._searching = self._searches()
            blind = (*(w.id for w in mappers if w.memory is None), *self._fleet.hidden)
            kind, maxvalue = (how.kind, how.maxvalue) if how else (None, None)
            return Reading(value, kind, maxvalue, blind=blind, searching=self._searching), waiters
        if self._no_lock(semaphore) is not None:
            return Reading(value, how.kind, how.maxvalue), waiters
        baselines = self._baselines.setdefault(semaphore, Baselines())
        read = reading.read_lock(semaphore, mappers, how, value, waiters > 0, baselines.known)
        return replace(read, blind=(*read.blind, *self._fleet.hidden)) if self._fleet.hidden else read, waiters

    def _no_lock(self, semaphore: SemId) -> str | None:
        """Return why its counts do not show holders: it is part of something larger, or may be. None for a lock."""
        part = self._parts.get(semaphore)
        if part is not None and part.guessed:
            why = "have not been found yet" if part.pending else "cannot be read"
            return f"it may be a signal inside {part.part_of}: the Python objects that have it {why}"
        return f"a signal inside {part.part_of}, not a lock: nobody holds it" if part and part.signal else None

    def _verdict(self, semaphore: SemId, read: Reading) -> Verdict:
        if read.value is None or read.maxvalue is None:
            return judge(read, {})
        if no_lock := self._no_lock(semaphore):
            return Verdict("unknown", reason=no_lock)
        baselines = self._baselines.setdefault(semaphore, Baselines())
        baselines.note(read.claims)
        if read.maxvalue == SEM_VALUE_MAX and read.steady and not read.blind:
            baselines.count_units(read.value, read.claims)
        most = baselines.units if read.maxvalue == SEM_VALUE_MAX else read.maxvalue
        if most is not None and read.value >= most and self._may_sample(semaphore, baselines):
            began_s = time.thread_time()
            self._learn(semaphore, most)
            self._rounds.took(semaphore, time.thread_time() - began_s)
        elif baselines.has_unproven and read.claims:
            self._heirs.learn(semaphore, self._fleet.mappers.get(semaphore, ()), read, baselines)
        verdict = judge(read, baselines.known, baselines.handed_over)
        certain = [claim.process for claim in verdict.holders if claim.certain]
        return with_settled(verdict, [p for p in certain if self._lost_children(p, baselines)]) if certain else verdict

    def _may_sample(self, semaphore: SemId, baselines: Baselines) -> bool:
        """Return True for a free lock that is due, and that has its turn among thousands."""
        return baselines.due(self._now_s) and (baselines.has_unproven or self._rounds.may(semaphore))

    def _lost_children(self, process: ProcessId, baselines: Baselines) -> bool:
        """Return True if a child of it may have released what it took, and have ended."""
        return self._fleet[process].lost_children_since(baselines.reaped_at_rest(process))

    def _value_by_name(self, semaphore: SemId) -> tuple[int, int] | None:
        """A linked semaphore's file can be read without any right over the processes."""
        for directory in self._directories:
            if (found := directory.read(semaphore)) is not None:
                return found
        return None

    def _linked(self) -> set[SemId]:
        return {semaphore for directory in self._directories for semaphore in directory.names()}

    def _learn(self, semaphore: SemId, maxvalue: int) -> None:
        """Look for counts that stand while the lock is free, in several samples: a busy lock is free and has claims by
        turns.
        """
        mappers, baselines = self._fleet.mappers.get(semaphore, ()), self._baselines[semaphore]
        if at_rest := reading.at_rest(self._now_s, semaphore, mappers):
            baselines.note(at_rest)
            baselines.sample_free(self._now_s, (), ())
            return
        standing: set[Claim] | None = None
        before: dict[ProcessId, Activity] = {}
        now: dict[ProcessId, Activity] = {}
        for _ in range(_SAMPLES_OF_FREE):
            counting = [w for w in mappers if any(claim.process == w.id for claim in standing or ())]
            before = {w.id: w.activity(semaphore) for w in counting}
            claims, _ = reading.claims_on(semaphore, mappers)
            after = reading.value_of(semaphore, mappers)
            if after is None or after[0] < maxvalue or self._stale(semaphore, claims):
                return
            now = {w.id: w.activity(semaphore) for w in counting}
            baselines.note(claims)
            standing = {c for c in claims if c.count} & (set(claims) if standing is None else standing)
            if not standing:
                break
            time.sleep(_SAMPLE_PAUSE_S)
        asleep = {process for process in now if now[process].asleep_since(before[process])}
        baselines.sample_free(self._now_s, standing or (), asleep, now)

    # -- the picture

    def _compose(self, members: Sequence[Member], judged: dict[SemId, Judged]) -> Snapshot:
        taken_at = time.time()
        locks = count_separate(self._picture.locks(self._now_s, judged, self._names, self._parts, members))
        locks, tracing = self._with_traces(locks, [member.id for member in members])
        self._files = self._file_locks.read(self._now_s, self._fleet.all, self._fleet.mappers, self._book.walks)
        locks = (*locks, *self._files.locks)
        return Snapshot(
            server=self.server,
            taken_at=taken_at,
            monotonic_s=self._now_s,
            processes=self._picture.processes(self._now_s, members, locks),
            locks=locks,
            thread_locks=self._thread_locks.read(self._now_s, taken_at, self._fleet.all),
            problems=tuple(self._problems()),
            tracing=tracing,
            watched_s=self._now_s - self._began_s,
            shared_memory=self._directories[0].room() or self._directories[1].room(),
            deaths=self._deaths.update(
                self._now_s, self.server, {each.id: (each.role, each.stat.ppid) for each in members}
            ),
        )

    def _with_traces(
        self, locks: tuple[Lock, ...], members: Sequence[ProcessId]
    ) -> tuple[tuple[Lock, ...], Tracing | None]:
        """The locks with what the traced ones among them say themselves."""
        self._unread = ()
        state = self._traced.state(members, Mapped(dict(self._fleet.ids), self._fleet.hidden))
        if state is None:
            return locks, None
        from semtrace.tracing import traced

        self._unread = traced.problems(state)
        now_ns = int(self._now_s * 1e9)
        blind = {watched.id for watched in self._fleet.all if watched.memory is None}
        names = {lock.id: lock.name for lock in locks if lock.name}
        ends = {process: self._lives.end_of(self._now_s, process) for process in state.files}
        refined = traced.refine(locks, state, now_ns, blind, ends, self._fleet.hidden)
        return refined, traced.tracing(state, now_ns, self._traced.live, names)

    def _problems(self) -> Iterator[Problem]:
        if not self._tree.alive:
            yield Problem(
                what="follow new processes",
                error=f"PID {self.server.pid}, which started these, has ended",
                remedy="they go on without it: a process that one of them starts is still seen",
            )
        for watched in self._fleet.all:
            yield from watched.problems
        yield from self._book.problems()
        yield from self._hidden_files()
        yield from self._unread

    def _hidden_files(self) -> Iterator[Problem]:
        """Say whose open files would decide who holds a file lock."""
        known = {each.process for watched in self._fleet.all for each in watched.problems}
        for process in self._files.hidden:
            if process not in known:
                yield refused(process, "list its open files: file locks that it inherited", PermissionError())


def _asks_for_names(snapshot: Snapshot) -> bool:
    """Return True if the snapshot has something to report, which names make clearer."""
    awake = any(not wait.idle for wait in snapshot.waits.waits)
    return awake or bool(snapshot.findings) or any(lock.waiters or lock.state == "unknown" for lock in snapshot.locks)


def _in_flux(judged: Judged) -> Judged:
    reason = "in flux: a process that maps it was forked in every sample"
    return replace(judged, verdict=Verdict("unknown", reason=reason))


def settle(observer: Observer, patience_s: float = 3.0) -> Snapshot:
    """A snapshot that waits for searches and proofs that are under way, for `patience_s`. Where the processors are busy
    with others, memory may be read for so long by our own time on them.
    """
    deadline, allowance = time.monotonic() + patience_s, Allowance(patience_s, _STARVED)
    snapshot = observer.snapshot()
    while observer.undecided() and snapshot.alive:
        if time.monotonic() >= deadline and not (observer.unread() and allowance.lasts()):
            break
        time.sleep(_SETTLE_PAUSE_S)
        snapshot = observer.snapshot()
    return _aged(observer, snapshot)


def _aged(observer: Observer, snapshot: Snapshot) -> Snapshot:
    """Take more snapshots while a thread may have slept for long before the first one: so long it is not a wait yet."""
    at_rest = resting(snapshot) if snapshot.alive else {}
    while at_rest and snapshot.alive and snapshot.watched_s < KNOWN_AFTER_S:
        time.sleep(_SETTLE_PAUSE_S)
        snapshot = observer.snapshot()
        at_rest = still_resting(at_rest)
    return snapshot
