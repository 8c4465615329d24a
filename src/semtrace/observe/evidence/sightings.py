"""Locate the threads of one process, with what the proof of an orphan needs to know of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from semtrace.cpython.acquiring import Code, acquiring_code
from semtrace.cpython.runtime import LockPlace, lock_place
from semtrace.linux import futex, nativestack
from semtrace.linux.futex import RunTime, Thread
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import HIGHEST_ADDRESS, Memory
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.program import may_handle_signal
from semtrace.observe.evidence.proof import Gil, Sighting


class Sightings:
    """Remember where the code and the interpreter lock of the process lie, and which threads have not run since their
    stacks were read. `mappings` lists its mappings again.
    """

    def __init__(self, pid: int, memory: Memory, mappings: Callable[[], list[Mapping]]) -> None:
        self._pid = pid
        self._memory = memory
        self._mappings = mappings
        self._code: tuple[frozenset[int], Code | None] | None = None
        self._lock_place: tuple[LockPlace | None, tuple[int, int]] | None = None
        self._elsewhere: dict[int, tuple[Thread, RunTime, Code]] = {}

    def take(
        self, threads: Iterable[Thread], stopped: bool, semaphores: Collection[int], types: Collection[int]
    ) -> Iterator[Sighting]:
        """Yield one for each thread. `semaphores` are the addresses of those that the process maps: a thread that waits
        for one has not taken it, and does not wait for the interpreter lock. `types` are its SemLock types.
        """
        kinds = frozenset(types)
        known, self._elsewhere = self._elsewhere, {}
        for thread in threads:
            if thread.futex is None and thread.blocked and may_handle_signal(self._pid, thread.tid):
                yield Sighting(thread, stopped, gil=self._in_handler(thread, kinds))
            elif thread.futex is None or any(at <= thread.futex < at + PAGE_SIZE for at in semaphores):
                asked = thread.futex is not None or not thread.blocked
                ran = futex.run_time(self._pid, thread.tid) if asked else None
                yield Sighting(thread, stopped, ran)
            elif (code := self._acquiring_code(kinds)) is None:
                gil = Gil.UNKNOWN if self._may_be_gil(thread.futex) else Gil.NO
                yield Sighting(thread, stopped, futex.run_time(self._pid, thread.tid), gil)
            else:
                yield self._by_stack(thread, stopped, code, known.get(thread.tid))

    def _by_stack(
        self, thread: Thread, stopped: bool, code: Code, elsewhere: tuple[Thread, RunTime, Code] | None
    ) -> Sighting:
        """Read its stack, which counts only if it has not run between two readings of its run time, nor was running."""
        pid, tid = self._pid, thread.tid
        before = futex.run_time(pid, tid)
        if elsewhere is not None and elsewhere == (thread, before, code):
            self._elsewhere[tid] = elsewhere
            return Sighting(thread, stopped, before)
        now = self._thread(tid)
        inside = None if now is None or now.stack is None else nativestack.returns_into(self._memory, now.stack, code)
        after = futex.run_time(pid, tid)
        if now is None or now.futex != thread.futex or after is None or before != after:
            return Sighting(Thread(tid, None), stopped, after)
        if inside is False:
            self._elsewhere[tid] = (now, after, code)
        return Sighting(now, stopped, after, {None: Gil.UNKNOWN, True: Gil.ACQUIRING, False: Gil.NO}[inside])

    def _in_handler(self, thread: Thread, types: frozenset[int]) -> Gil:
        """Check whether a signal handler that blocks has interrupted SemLock.acquire."""
        code = self._acquiring_code(types)
        if code is None or thread.stack is None or not nativestack.HANDLERS_KNOWN:
            return Gil.UNKNOWN
        all_code = [(m.start, m.end) for m in self._mappings() if m.inode and "x" in m.perms]
        for stack, address in nativestack.interrupted(self._memory, thread.stack, all_code):
            in_code = any(start <= address < end for start, end in code)
            if in_code or nativestack.returns_into(self._memory, stack, code) is not False:
                return Gil.ACQUIRING
        return Gil.NO

    def _thread(self, tid: int) -> Thread | None:
        try:
            return futex.read_thread(self._pid, tid)
        except PermissionError:
            return None

    def _acquiring_code(self, types: frozenset[int]) -> Code | None:
        """Return the code that a thread inside SemLock.acquire returns to, None if that is not known."""
        if self._code is None or self._code[0] != types:
            self._code = (types, acquiring_code(self._memory, types, self._mappings()) if types else None)
        return self._code[1]

    def _may_be_gil(self, address: int) -> bool:
        """Return True for the interpreter's own data, where its lock lies (`_PyRuntime.ceval.gil`, from 3.12 on
        `_PyRuntime._main_interpreter._gil`: Include/internal/pycore_runtime.h). Also return True for any address where
        that is not known, or while there are several interpreters that have their own.
        """
        if self._lock_place is None:
            mappings = self._mappings()
            found = lock_place(self._memory, mappings)
            self._lock_place = (found, _writable_around(found.runtime if found else None, mappings))
        place, (start, end) = self._lock_place
        return place is None or not place.is_there(self._memory) or start <= address < end


def _writable_around(address: int | None, mappings: list[Mapping]) -> tuple[int, int]:
    """The data and bss that the address lies in: writable mappings that adjoin. Everything, if it is not known."""
    runs: list[tuple[int, int]] = []
    for mapping in mappings:
        if mapping.perms.startswith("rw"):
            start = runs.pop()[0] if runs and runs[-1][1] == mapping.start else mapping.start
            runs.append((start, mapping.end))
    around = (run for run in runs if address is not None and run[0] <= address < run[1])
    return next(around, (0, HIGHEST_ADDRESS))
