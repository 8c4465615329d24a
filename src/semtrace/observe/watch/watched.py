"""One process under watch: its open files in /proc, the semaphores it has mapped, and its SemLock objects for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Mapping as Dict
from functools import cached_property

from semtrace.cpython import semlock, semtype
from semtrace.cpython.owners import OwnerSearch
from semtrace.cpython.semlock import SemLock
from semtrace.cpython.threadids import tid_offset
from semtrace.linux import futex, pages, shm
from semtrace.linux.maps import Mapping, SemaphoreMaps, SemMapping, read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE, TICKS_PER_S, Stat, children, door, read_stat
from semtrace.linux.program import namespace_pids, session_id
from semtrace.linux.pthread import innermost_ids, kernel_tid
from semtrace.linux.rights import refused
from semtrace.model import Problem, ProcessId, SemId
from semtrace.observe.evidence.foreign import ForeignUse, WholeSearch
from semtrace.observe.evidence.owned import Owned
from semtrace.observe.evidence.proof import Sighting
from semtrace.observe.evidence.sightings import Sightings
from semtrace.observe.evidence.verdict import Claim
from semtrace.observe.watch import activity
from semtrace.observe.watch.activity import Activity
from semtrace.observe.watch.pagesearch import LastSearch

# A change of the address space's size is seen in the refresh; a mapping that replaced another of the same size within
# one refresh is seen no later than this.
RELIST_S = 1.0

# How long to leave a process alone whose search found nothing for some semaphore, doubled each time.
_RETRY_S, _RETRY_MOST_S = 0.25, 60.0

_MOST_FORMER = 64
# When to search a process again that may use a semaphore by other means than its SemLock objects: that may pass.
_FOREIGN_S = 10.0

_LIST_IT = "list what it has mapped: its semaphores"

_END = object()


class Watched:
    """Reads give None where the process does not let itself be read; `problems` say why, once for each sort of file."""

    def __init__(self, stat: Stat) -> None:
        self.last_search = LastSearch(time.monotonic())
        self.id: ProcessId = stat.id
        self.stat = stat
        self.semaphores: dict[SemId, int] = {}
        self.objects: dict[SemId, list[SemLock]] = {}
        self.table_names: dict[SemId, str] = {}
        self.problems: list[Problem] = []
        self.hidden = False  # it is not known which semaphores it has
        self.beats = False  # it has a heartbeat file that its parent made for it
        self._first_parent = stat.ppid
        self.memory = self._open_memory()
        self._maps = self._open_maps()
        self._listed: tuple[float, int] | None = None
        self._together = semlock.Together()
        self._uses: dict[int, tuple[int, int] | None] = {}
        self._claims: dict[SemId, Claim] = {}
        self._claims_s, self._claims_of = -1.0, (-1, -1)
        self._types: set[int] = set()
        self._former: list[int] = []  # where objects of semaphores that are gone lay
        self._search: Iterator[None] | None = None
        self._turn = -1
        self._retry_s = _RETRY_S
        self._retry_at_s = 0.0
        self._table: Iterator[None] | None = None
        self.searched_s: dict[SemId, float] = {}
        self._foreign: dict[SemId, ForeignUse | None] = {}
        self.owned = Owned()
        self._sightings = Sightings(self.id.pid, self.memory, self._mappings) if self.memory else None

    @cached_property
    def _adoptable(self) -> bool:
        """Return True if its parent may have adopted it. That is the init of a namespace, or a process that has asked
        to be one for its descendants (PR_SET_CHILD_SUBREAPER, which nobody else can see). A daemon has left its
        session.
        """
        if self._first_parent <= 1 or namespace_pids(self._first_parent)[-1] == 1:
            return True
        return session_id(self.id.pid) != session_id(self._first_parent)

    def _open_memory(self) -> Memory | None:
        try:
            return Memory(door(self.stat))
        except PermissionError as error:
            self.problems.append(refused(self.id, "read its memory: claims, holders and waiters", error))
        except OSError:
            pass
        return None

    def _open_maps(self) -> SemaphoreMaps | None:
        try:
            return SemaphoreMaps(door(self.stat))
        except (FileNotFoundError, ProcessLookupError):  # it ended
            pass
        except OSError as error:
            self._hide(error)
        return None

    def _hide(self, error: OSError) -> None:
        """It may have any semaphore mapped."""
        if not self.hidden:
            self.hidden = True
            self.problems.append(refused(self.id, _LIST_IT, error))

    def close(self) -> None:
        self._search = self._table = None
        self.last_search.close()
        self.owned.close()
        if self.memory is not None:
            self.memory.close()
        if self._maps is not None:
            self._maps.close()

    @property
    def dying(self) -> bool:
        """Return True once nothing of it can run any more."""
        stat = read_stat(self.id.pid)
        return stat is None or stat.id != self.id or stat.dying

    def lost_children_since(self, reaped: int) -> bool:
        """Return True if a child of it has ended since its `reaped` was this, also one that nobody has waited for."""
        stat = read_stat(self.id.pid)
        if stat is None or stat.id != self.id:
            return False
        return stat.reaped != reaped or any(child.ended for pid in children(stat) if (child := read_stat(pid)))

    # -- which semaphores

    def relist(self, now_s: float, at_once: bool = False) -> bool:
        """Look for new and gone semaphores where there may be some, or `at_once` in any case. True if there were."""
        if self._maps is None:
            return False
        unchanged = self._listed and self._listed[1] == self.stat.vsize and now_s - self._listed[0] < RELIST_S
        if unchanged and not at_once:
            return False
        self._listed = (now_s, self.stat.vsize)
        try:
            found = {m.id: m.address for m in self._maps.semaphores() if self._is_semaphore(m)}
        except OSError as error:
            self._hide(error)
            return True
        readable_again, self.hidden = self.hidden, False
        if readable_again:
            self.problems = [problem for problem in self.problems if problem.what != _LIST_IT]
        if found == self.semaphores:
            return readable_again
        kept = {s: known for s, known in self.objects.items() if found.get(s) == self.semaphores[s]}
        former = [o.address for s, known in self.objects.items() if s not in kept for o in known]
        self._former = (former + self._former)[:_MOST_FORMER]
        self.objects = kept
        self.table_names = {s: name for s, name in self.table_names.items() if s in found}
        self.searched_s = {s: at_s for s, at_s in self.searched_s.items() if s in found}
        self._foreign = {s: use for s, use in self._foreign.items() if s in found}
        self.owned.keep(found)
        self.semaphores = found
        self.learn(self._former)  # a program that makes a lock for each job has the next object where the last one was
        self._search, self._retry_s, self._retry_at_s = None, _RETRY_S, 0.0
        self._table = self._search_table()
        return True

    def _is_semaphore(self, mapped: SemMapping) -> bool:
        if mapped.id in self.semaphores or self.memory is None or shm.is_glibcs_file(mapped.path):
            return True
        return shm.may_be_musls(self.memory.read(mapped.address, PAGE_SIZE))

    def still_maps(self, semaphore: SemId) -> bool:
        """Return True if the semaphore is mapped where it was listed. A lock that was dropped leaves its address to the
        next one, and its objects' memory too, so what was read there may be another's.

        True also where the kernel does not answer, as for a process that has just ended.
        """
        address = self.semaphores.get(semaphore)
        if self._maps is None or address is None:
            return address is not None
        try:
            return self._maps.at(address) == semaphore
        except OSError:
            return True

    def age_of(self, semaphore: SemId) -> float | None:
        """Return how many seconds ago the semaphore was made, None where that cannot be read."""
        address = self.semaphores.get(semaphore)
        made_s = self._maps.made_s(address) if self._maps is not None and address is not None else None
        return None if made_s is None else time.time() - made_s

    @property
    def age_s(self) -> float:
        """Return how many seconds ago the process was born."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.id.start_ticks / TICKS_PER_S

    def lacking(self) -> list[SemId]:
        """Semaphores whose SemLock object is not known yet."""
        if len(self.objects) == len(self.semaphores):
            return []
        return [s for s in self.semaphores if s not in self.objects]

    # -- their SemLock objects

    def adopt(self, relatives: Iterable[Watched]) -> None:
        """Take over what a relative knows: a fork leaves every object at the address where its parent has it."""
        if self.memory is None:
            return
        lacking = set(self.lacking())
        for relative in relatives:
            for semaphore in lacking & relative.objects.keys():
                known = [o for o in relative.objects[semaphore] if self._has(o, self.semaphores[semaphore])]
                if known:
                    self.objects[semaphore] = known
                    self._table = None  # it did not open them: its relative did
            lacking -= self.objects.keys()
            if not lacking:
                return

    def _has(self, known: SemLock, handle: int) -> bool:
        if self.memory is None or known.handle != handle:
            return False
        here = semlock.read(self.memory, known.address)
        return here is not None and here.handle == handle and here.type == known.type and self._is_type(known.type)

    def _is_type(self, address: int) -> bool:
        if address not in self._types and self.memory and semtype.is_semlock_type(self.memory, address):
            self._types.add(address)
        return address in self._types

    def learn(self, addresses: Iterable[int]) -> None:
        """Take in objects that a walk of the interpreter has met: that spares the search for them."""
        handles = {address: semaphore for semaphore, address in self.semaphores.items()}
        for address in addresses:
            known = semlock.read(self.memory, address) if self.memory else None
            semaphore = handles.get(known.handle) if known else None
            if known and semaphore and semaphore not in self.objects and self._is_type(known.type):
                self.objects[semaphore] = [known]

    def continue_search(self, now_s: float, wanted: Dict[SemId, float], relatives: Iterable[Watched] = ()) -> bool:
        """Read one more piece in search of objects that are lacking, or of all objects of the `wanted` semaphores
        whose last whole search began before the time given. False when there is nothing to search for now.

        Pages that it has in common with one of the `relatives` need not be searched twice.
        """
        stale = {s for s, since_s in wanted.items() if self._is_stale(s, now_s, since_s)} & self.semaphores.keys()
        lacking = bool(self.lacking())
        if not stale and not lacking:
            self._search = None  # a walk of the interpreter has met them meanwhile
            return self._continue_table() or self._continue_owners()
        if self._search is None:
            if not stale and now_s < self._retry_at_s:
                return self._continue_owners()
            since_s = max((self._wanted_since_s(s, now_s, wanted) for s in stale), default=now_s)
            whole = self._search_wholly(now_s, stale, since_s, list(relatives)) if stale else None
            self._search = whole or self._search_lacking(now_s)
        if next(self._search, _END) is _END:
            self._search = None
        return True

    def _is_stale(self, semaphore: SemId, now_s: float, since_s: float) -> bool:
        searched_s = self.searched_s.get(semaphore, -1.0)
        return searched_s < since_s or (self._foreign.get(semaphore) is not None and now_s - searched_s >= _FOREIGN_S)

    def _wanted_since_s(self, semaphore: SemId, now_s: float, wanted: Dict[SemId, float]) -> float:
        """Return when a search of this semaphore may have begun at the earliest."""
        again = self.searched_s.get(semaphore, -1.0) >= wanted[semaphore]  # but a foreign use may have passed
        return now_s - _FOREIGN_S / 2 if again else wanted[semaphore]

    def foreign_users(self, semaphore: SemId) -> ForeignUse | None:
        """Return how code of this process may use the semaphore other than through its SemLock objects, as the last
        whole search has found; None without a sign of that.
        """
        return self._foreign.get(semaphore, ForeignUse.UNSEARCHED)

    def _continue_table(self) -> bool:
        if self._table is None:
            return False
        if next(self._table, _END) is _END:
            self._table = None
        return True

    # -- what those without a name are parts of

    @property
    def learned(self) -> tuple[int, int]:
        """Return what the searches have found so far, to be compared."""
        return len(self.objects), self.owned.changes

    def _continue_owners(self) -> bool:
        return self.memory is not None and self.owned.proceed(self.objects.keys(), self._search_owners)

    def _search_owners(self, semaphores: list[SemId]) -> Iterator[None]:
        if self.memory is None:
            return
        objects = {known.address: s for s in semaphores for known in self.objects.get(s, ())}
        run = OwnerSearch(self.memory, self._mappings(), self._object_ranges, objects)
        yield from self.owned.search(semaphores, objects, run, lambda: self.semaphores)

    def _search_lacking(self, now_s: float) -> Iterator[None]:
        """Search its memory for SemLock objects of all its semaphores; yield after each piece read."""
        if self.memory is None:
            return
        handles = {address: semaphore for semaphore, address in self.semaphores.items()}
        lacking = self.lacking()
        self._turn += 1  # each time others of them are looked for singly
        missing = [self.semaphores[s] for s in (*lacking[self._turn % len(lacking) :], *lacking)] if lacking else []
        search = semlock.Search(self.memory, self._object_ranges, handles, self._types, dict.fromkeys(missing))
        yield from search
        self._types |= search.types
        found: dict[SemId, list[SemLock]] = {}
        for known in search.found.values():
            found.setdefault(handles[known.handle], []).append(known)
        for semaphore, objects in found.items():
            known_here = {known.address for known in objects}
            self.objects[semaphore] = objects + [
                known for known in self.objects.get(semaphore, ()) if known.address not in known_here
            ]
        self._retry_at_s, self._retry_s = now_s + self._retry_s, min(2 * self._retry_s, _RETRY_MOST_S)

    def _search_wholly(
        self, now_s: float, semaphores: Iterable[SemId], since_s: float, relatives: Iterable[Watched]
    ) -> Iterator[None]:
        """Search it for all SemLock objects of these semaphores, whatever their type, and for whatever else may use
        them: for the proof. What relatives were searched for before `since_s` does not count.
        """
        if self.memory is None:
            return
        handles = {self.semaphores[s]: s for s in semaphores if s in self.semaphores}
        parent_first = sorted(relatives, key=lambda each: each.id.pid != self.stat.ppid)
        others = [each.last_search for each in parent_first]
        searched = self.last_search.begin(self.memory, door(self.stat), now_s, since_s, others)
        search = WholeSearch(self.memory, self._mappings(), self._touched, handles, searched.find_words)
        with contextlib.ExitStack() as given_up:
            given_up.callback(searched.close)
            yield from search
            given_up.pop_all()
        self.last_search.keep(searched)
        self._types |= search.types
        self.objects.update({semaphore: known for semaphore, known in search.objects.items() if known})
        # A lock that was searched while its Queue was being made has its owner only now.
        plain = [semaphore for semaphore in search.foreign if self.owned.found.get(semaphore, _END) is None]
        if plain:
            yield from self._search_owners(plain)
        self._foreign.update(search.foreign)
        self.searched_s.update(dict.fromkeys(search.foreign, searched.began_s))

    def _touched(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        return pages.touched(door(self.stat), start, end)

    def searches_soon(self, now_s: float) -> bool:
        """Return True while a search runs, or is due for the first time: a little patience then shows more."""
        if self._search is not None or self._table is not None or self.owned.is_due(self.objects.keys()):
            return True
        return self._retry_s == _RETRY_S and bool(self.lacking()) and self.memory is not None

    def _object_ranges(self) -> Iterator[tuple[int, int]]:
        for mapping in self._mappings():
            if mapping.holds_objects:
                yield from self._touched(mapping.start, mapping.end)

    def _mappings(self) -> list[Mapping]:
        try:
            return read_mappings(door(self.stat)) or []
        except PermissionError:
            return []

    def _search_table(self) -> Iterator[None]:
        """The names of unlinked semaphores, from glibc's table of what this process opened, which lies in its heap."""
        if self.memory is None:
            return
        handles = {address: semaphore for semaphore, address in self.semaphores.items()}
        heaps = (mapping for mapping in self._mappings() if mapping.path == "[heap]")
        parts = (part for heap in heaps for part in pages.touched(door(self.stat), heap.start, heap.end))
        for found in shm.names_in_table(self.memory, parts, handles):
            if found is None:
                yield
            else:
                self.table_names[found[0]] = found[1]

    # -- what changes all the time

    def read_semaphore(self, semaphore: SemId) -> tuple[int, int] | None:
        """Its value and an upper bound of its waiters."""
        if self.memory is None:
            return None
        return shm.parse_shared(self.memory.read(self.semaphores[semaphore], shm.SHARED_SIZE))

    def read_claim(self, semaphore: SemId) -> Claim | None:
        """This process's count, over all of its objects for the semaphore; None if it has none that can be read."""
        if self.memory is None:
            return None
        known = self.objects.get(semaphore)
        if not known:
            return None
        return self._claim(semaphore, [semlock.read_use(self.memory, each) for each in known])

    def _claim(self, semaphore: SemId, read: Collection[tuple[int, int] | None]) -> Claim | None:
        """Sum up what its objects for one semaphore say. Those that are gone are forgotten, and searched for again."""
        uses = [use for use in read if use is not None]
        if len(uses) < len(read):
            self.objects.pop(semaphore, None)
            self._retry_at_s = 0.0
        if not uses:
            return None
        last_tid, count = uses[0]
        if len(uses) > 1:
            last_tid, _ = max(uses, key=lambda use: (use[1], use[0] != 0))
            count = sum(count for _, count in uses)
        stat = self.stat
        return Claim(self.id, count, last_tid, self.parent, stat.forked, stat.reaped)

    def claims_in(self, refresh_s: float) -> Dict[SemId, Claim]:
        """Return its claims to all semaphores, read together and once in the refresh that began at `refresh_s`: they
        may be old for a caller later in it.
        """
        if self._claims_s != refresh_s and self.memory is not None:
            self._claims_s, before = refresh_s, self._uses
            self._uses = self._together.uses(self.memory, [each for known in self.objects.values() for each in known])
            if self._uses is not before or self._claims_of != (self.stat.reaped, self.parent):
                self._claims_of = self.stat.reaped, self.parent
                read = {s: [self._uses[each.address] for each in known] for s, known in self.objects.items()}
                self._claims = {s: claim for s, uses in read.items() if (claim := self._claim(s, uses)) is not None}
        return self._claims

    def threads(self, listed: bool = False) -> list[futex.Thread]:
        """Return where its threads are. `listed`: list them now, even if it had only one at the last sample."""
        if self.memory is None:
            return []
        try:
            return futex.threads(self.id.pid, single=self.stat.threads == 1 and not listed) or []
        except PermissionError:
            return []

    def activity(self, semaphore: SemId) -> Activity:
        """Return what its threads are doing; `all_wait` is about this semaphore."""
        return activity.take(self.id.pid, self.threads(listed=True), self.semaphores.get(semaphore))

    @property
    def parent(self) -> int:
        """Return the PID of the process that it was forked from, 0 where that is not sure. An orphaned child is adopted
        by the init of its PID namespace, which in a container is often the server's own first process. A worker that
        beats for its master is not an adopted one.
        """
        if self._adoptable and not self.beats:
            return 0
        return self._first_parent

    def tid_of(self, pthread: int) -> int | None:
        """The kernel's id of a thread of this process that CPython knows by its pthread id."""
        if self.memory is None:
            return None
        return kernel_tid(self.memory, self.id.pid, pthread, self.stat.threads, self._tid_offset)

    @cached_property
    def _tid_offset(self) -> int | None:
        if self.memory is None:
            return None
        return tid_offset(self.memory, self._mappings(), innermost_ids(self.id.pid))

    def sightings(self) -> Iterator[Sighting]:
        """Yield all threads, with what the proof of an orphan needs to know of each."""
        if self._sightings is None:
            return iter(())
        stopped = self.stat.state == "stopped"
        return self._sightings.take(self.threads(listed=True), stopped, self.semaphores.values(), self._types)
