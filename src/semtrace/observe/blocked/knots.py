"""Give a snapshot its wait graph, with the evidence that only those who may be stuck are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from semtrace.lazydata import replace
from semtrace.linux.blocked import Call
from semtrace.model import (
    Frame,
    Holder,
    Lock,
    Process,
    ProcessId,
    SemId,
    Snapshot,
    ThreadId,
    ThreadLock,
    ThreadLockUse,
    Wait,
    Waiter,
    WaitKind,
)
from semtrace.observe.blocked.blocks import Blocking, Blocks
from semtrace.observe.blocked.waitfor import polled, renewed, stack
from semtrace.observe.files.filewaits import FileWait
from semtrace.observe.judge.outsiders import Outsiders
from semtrace.observe.names.namebook import NameBook
from semtrace.observe.names.parentcopies import ParentCopies
from semtrace.observe.watch.fleet import Fleet
from semtrace.waits.build import wait_graph

Linked = Callable[[], Collection[SemId]]

# These run code of the application's, or have been forked by what does: their handlers are not the server's own.
_OF_PROGRAM = ("process", "manager", "forkserver")


class Knots:
    """Find stuck threads in three steps, each only for what the one before leaves open. The steps ask the threads of
    the server, which of them could be stuck if nobody outside could wake them, and whether somebody can.
    """

    def __init__(self, fleet: Fleet, book: NameBook, linked: Linked) -> None:
        self._fleet = fleet
        self._linked = linked
        self._blocking = Blocking(book.private_names)
        self._outsiders = Outsiders()
        self._parents = ParentCopies()
        self._files: Mapping[ThreadId, FileWait] = {}

    @property
    def unfinished(self) -> bool:
        """Return True while stacks of sleeping threads are still to be read."""
        return self._blocking.unfinished

    def judge(self, snapshot: Snapshot, files: Mapping[ThreadId, FileWait] | None = None) -> Snapshot:
        """Return the snapshot with its waits; `files` are those for file locks, as they are now."""
        now_s = snapshot.monotonic_s
        self._files = files or {}
        # gunicorn's own handlers wake nobody. Of other servers' handlers that is not known.
        known = snapshot.processes if snapshot.server.kind == "gunicorn" else ()
        serving = {process.id for process in known if process.role not in _OF_PROGRAM}
        blocks = self._blocking.read(now_s, self._fleet.all, serving, _shown(snapshot), self._files)
        snapshot = replace(
            snapshot,
            locks=tuple(self._lock(lock, blocks) for lock in snapshot.locks),
            thread_locks=tuple(_private(lock, blocks) for lock in snapshot.thread_locks),
            handlers=blocks.handlers,
            alarms=blocks.alarms,
            processes=tuple(_process(process, blocks) for process in snapshot.processes),
            ended=blocks.ended,
            programs=blocks.programs,
        )
        snapshot = self._with_waits(snapshot)
        suspects = _suspects(snapshot)
        if self._blocking.ask_members(suspects, [each.id for each in self._fleet.all]):
            snapshot = self._with_waits(snapshot)
            suspects = _suspects(snapshot)
        semaphores = {
            lock.id for lock in snapshot.semaphores if any(_thread(each) in suspects for each in lock.waiters)
        }
        new = self._outsiders.ask(now_s, semaphores, self._fleet.mappers, self._linked() if semaphores else ())
        new |= self._blocking.ask_everybody(now_s, suspects, snapshot.server.id)
        if new:
            locks = tuple(replace(each, outsiders=self._outsiders.of(each.id)) for each in snapshot.locks)
            snapshot = self._with_waits(replace(snapshot, locks=locks))
        return self._with_parents(replace(snapshot, waits=wait_graph(snapshot)))

    def _with_parents(self, snapshot: Snapshot) -> Snapshot:
        """Note for stuck waits what the parent does with the same lock, and which it is for a private signal."""
        stuck = [wait for wait in snapshot.waits.waits if wait.thread in snapshot.waits.stuck]
        if not stuck:
            return snapshot
        copies = self._parents.note(stuck, self._fleet.all, self._blocking.layouts())
        parents = self._forked_from(stuck)
        if not copies and not parents:
            return snapshot

        def noted(wait: Wait) -> Wait:
            return replace(wait, parent_copy=copies.get(wait.thread), forked_from=parents.get(wait.thread))

        roots = tuple(replace(root, waits=tuple(map(noted, root.waits))) for root in snapshot.waits.roots)
        return replace(snapshot, waits=replace(snapshot.waits, roots=roots))

    def _forked_from(self, stuck: Iterable[Wait]) -> dict[ThreadId, ProcessId]:
        by_id, by_pid = {each.id: each for each in self._fleet.all}, {each.id.pid: each for each in self._fleet.all}
        found = {}
        for wait in stuck:
            child = by_id.get(wait.thread.process) if wait.target.kind is WaitKind.SIGNAL else None
            parent = by_pid.get(child.stat.ppid) if child is not None and child.stat.forked else None
            if parent is not None:
                found[wait.thread] = parent.id
        return found

    def _with_waits(self, snapshot: Snapshot) -> Snapshot:
        single = frozenset(process.id for process in snapshot.processes if process.threads == 1)
        polling = (polled(each, single) for each in self._files.values() if each.poller is not None)
        waits = (self._renewed(each, single) for each in self._blocking.waits(snapshot.monotonic_s))
        return replace(snapshot, blocked=(*waits, *polling))

    def _renewed(self, wait: Wait, single: Collection[ProcessId]) -> Wait:
        """The last pass may have seen the holder before its descriptors were asked, or another holder."""
        known = self._files.get(wait.thread) if wait.target.kind is WaitKind.FILE_LOCK else None
        return wait if known is None else renewed(wait, known, single)

    def _file(self, lock: Lock, blocks: Blocks) -> Lock:
        """The holder of a file lock is a process: which of several threads took it is not known."""
        return replace(
            lock,
            holders=tuple(_holder(each, blocks.stacks) if each.tid is not None else each for each in lock.holders),
            waiters=tuple(self._file_waiter(each, blocks) for each in lock.waiters),
        )

    def _file_waiter(self, waiter: Waiter, blocks: Blocks) -> Waiter:
        wait = self._files.get(_thread(waiter))
        if wait is None or wait.poller is None:
            return _waiter(waiter, blocks)
        return replace(waiter, stack=stack(wait.poller.frames))

    def _lock(self, lock: Lock, blocks: Blocks) -> Lock:
        outsiders = self._outsiders.of(lock.id)
        if not lock.holders and not lock.waiters and outsiders == lock.outsiders:
            return lock  # as most are of thousands
        if lock.file is not None:
            return self._file(lock, blocks)
        return replace(
            lock,
            holders=tuple(_holder(holder, blocks.stacks) for holder in lock.holders),
            waiters=tuple(_waiter(waiter, blocks) for waiter in lock.waiters),
            outsiders=outsiders,
        )


def _shown(snapshot: Snapshot) -> set[ThreadId]:
    """Return the threads that hold a lock or wait for one."""
    uses = [use for lock in snapshot.thread_locks for use in lock.processes]
    holders = [holder for lock in snapshot.locks for holder in lock.holders]
    holders += [use.holder for use in uses if use.holder is not None]
    waiters = [waiter for lock in snapshot.locks for waiter in lock.waiters]
    waiters += [waiter for use in uses for waiter in use.waiters or ()]
    return {*map(_thread, waiters), *map(_holding_thread, holders)}


def _suspects(snapshot: Snapshot) -> set[ThreadId]:
    """Return the threads of which it matters who could wake them: none where only idle threads wait for each other."""
    found = wait_graph(snapshot, assume_asked=True)
    of_roots = {wait.thread for root in found.roots for wait in (*root.waits, *root.behind)}
    threads = of_roots | found.stuck
    waits = {wait.thread: wait for wait in found.waits}
    return threads if any(not waits[thread].idle for thread in threads) else set()


# A process whose first thread is in one of these waits for what is to do: from the network, or from a timer.
_FOR_WORK = (Call.ACCEPT, Call.EPOLL, Call.POLL, Call.SELECT, Call.PAUSE)


def _process(process: Process, blocks: Blocks) -> Process:
    call = blocks.doing.get(process.id)
    idle = None if call is None else call in _FOR_WORK
    loop = process.id in blocks.loops
    return replace(process, frozen=process.id in blocks.frozen, idle=idle, event_loop=loop)


def _private(lock: ThreadLock, blocks: Blocks) -> ThreadLock:
    uses: Iterable[ThreadLockUse] = (_use(use, blocks) for use in lock.processes)
    return replace(lock, processes=tuple(uses))


def _use(use: ThreadLockUse, blocks: Blocks) -> ThreadLockUse:
    if not use.waiters:
        return use
    holder = use.holder and _holder(use.holder, blocks.stacks)
    return replace(use, holder=holder, waiters=tuple(_waiter(waiter, blocks) for waiter in use.waiters))


def _holder(holder: Holder, stacks: Mapping[ThreadId, tuple[Frame, ...]]) -> Holder:
    stack = stacks.get(_holding_thread(holder))
    return holder if stack is None else replace(holder, stack=stack)


def _holding_thread(holder: Holder) -> ThreadId:
    return ThreadId(holder.process, holder.tid or holder.pid)


def _waiter(waiter: Waiter, blocks: Blocks) -> Waiter:
    thread = _thread(waiter)
    stack = blocks.stacks.get(thread)
    if stack is None:
        return waiter
    return replace(waiter, stack=stack, idle=thread in blocks.idle, in_handler=thread in blocks.in_handler)


def _thread(waiter: Waiter) -> ThreadId:
    return ThreadId(waiter.process, waiter.tid)
