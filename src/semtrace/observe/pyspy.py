"""Python stacks of threads, by `py-spy dump --nonblocking`: it reads memory as we do, without ptrace or a pause.

A thread that runs on meanwhile may give a stack that never was; one that waits gives a true one. Without py-spy, or
where it fails, there are no stacks and a problem says so. What it prints comes from the target: nothing in it is
trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from semtrace.cpython.threadids import tid_offset
from semtrace.lazydata import dataclass
from semtrace.linux import privileges
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat, still, thread_ids
from semtrace.linux.pthread import innermost_ids, kernel_tid
from semtrace.linux.source import SourceLines
from semtrace.model import (
    Frame,
    Holder,
    Lock,
    Problem,
    ProcessId,
    SemId,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    Waiter,
    is_own,
)

# One dump takes 10 to 50 ms.
MOST_PROCESSES = 16
_PATIENCE_S = 5.0
_ONE_S = 2.0
_ATTEMPTS = 4
_MOST_BYTES = 8 << 20
_PIECE = 1 << 16
_MOST_FRAMES = 200
_MOST_SOURCES = 24
_LONGEST = 300

T = TypeVar("T", Holder, Waiter)
Stack = tuple[Frame, ...]
Run = Callable[[int], bytes]


class _Moved(Exception):
    """The process ran on while it was read: what py-spy followed led nowhere. That passes."""


class _Failed(Exception):
    """It gave no stacks, for this reason."""


@dataclass(frozen=True)
class Stacks:
    """The stacks of several processes, by process and thread, and what could not be had."""

    of: Mapping[tuple[ProcessId, int], Stack]
    problems: tuple[Problem, ...] = ()


def with_stacks(snapshot: Snapshot, locks: Iterable[SemId] | None = None) -> Snapshot:
    """The snapshot with the stacks of all holders and waiters, of these locks only if any are given."""
    wanted = {lock.id for lock in snapshot.locks} if locks is None else set(locks)
    chosen = [lock for lock in snapshot.locks if lock.id in wanted and not lock.signal]
    threads: list[Holder | Waiter] = []
    for lock in chosen:
        threads += (*lock.holders, *lock.waiters)
    for use in (use for lock in snapshot.thread_locks for use in lock.processes if use.waiters):
        threads.extend(use.waiters or ())
        threads.extend([use.holder] if use.holder is not None else ())
    if not threads:
        return snapshot
    processes = [each.process for each in threads if each.stack is None]
    taken = take(processes)
    return replace(
        snapshot,
        locks=tuple(_with(lock, taken) if lock.id in wanted else lock for lock in snapshot.locks),
        thread_locks=tuple(_with_private(lock, taken) for lock in snapshot.thread_locks),
        problems=(*snapshot.problems, *(each for each in taken.problems if each not in snapshot.problems)),
    )


def confirmed(snapshot: Snapshot, after: Snapshot) -> Snapshot:
    """Return it without the stacks of threads that no longer hold or wait for that lock right after these were taken:
    such a stack shows what the thread did next.
    """
    locks = {lock.id: lock for lock in after.locks} if after.alive else {}
    uses = {(lock.name, use.process): use for lock in after.thread_locks for use in lock.processes if after.alive}
    return replace(
        snapshot,
        locks=tuple(_confirmed(lock, locks.get(lock.id)) for lock in snapshot.locks),
        thread_locks=tuple(
            replace(
                lock, processes=tuple(_use_confirmed(use, uses.get((lock.name, use.process))) for use in lock.processes)
            )
            for lock in snapshot.thread_locks
        ),
    )


def _confirmed(lock: Lock, now: Lock | None) -> Lock:
    return replace(
        lock,
        holders=_those_still(lock.holders, now.holders if now else ()),
        waiters=_those_still(lock.waiters, now.waiters if now else ()),
    )


def _use_confirmed(use: ThreadLockUse, now: ThreadLockUse | None) -> ThreadLockUse:
    holders = (now.holder,) if now and now.holder else ()
    return replace(
        use,
        holder=_those_still((use.holder,), holders)[0] if use.holder else None,
        waiters=use.waiters and _those_still(use.waiters, (now.waiters if now else None) or ()),
    )


def _those_still(before: Sequence[T], now: Sequence[T]) -> tuple[T, ...]:
    same = {(each.process, each.tid) for each in now}
    return tuple(each if (each.process, each.tid) in same else replace(each, stack=None) for each in before)


def take(processes: Iterable[ProcessId], run: Run | None = None) -> Stacks:
    """The stacks of all threads of these processes, of no more than MOST_PROCESSES and for a few seconds at most."""
    each = list(dict.fromkeys(processes))
    found: dict[tuple[ProcessId, int], Stack] = {}
    problems: list[Problem] = []
    run = run or _py_spy()
    if run is None:
        missing = Problem("read Python stacks", "py-spy is not installed", "pip install py-spy")
        return Stacks({}, (missing,) if each else ())
    end = time.monotonic() + _PATIENCE_S
    for process in each[:MOST_PROCESSES]:
        if time.monotonic() > end:
            break
        try:
            found.update({(process, tid): stack for tid, stack in _of_one(process, run)})
        except _Failed as error:
            if still(process):
                problems.append(_problem(process, error))
    return Stacks(found, tuple(problems))


def _problem(process: ProcessId, error: _Failed) -> Problem:
    """About nobody: a process without stacks is not one that could not be looked into."""
    return Problem(f"read the Python stacks of PID {process.pid}", str(error), "everything else was seen without them")


def _with(lock: Lock, taken: Stacks) -> Lock:
    return replace(
        lock,
        holders=tuple(_one_with(holder, taken) for holder in lock.holders),
        waiters=tuple(_one_with(waiter, taken) for waiter in lock.waiters),
    )


def _with_private(lock: ThreadLock, taken: Stacks) -> ThreadLock:
    uses = (
        replace(
            use,
            holder=_one_with(use.holder, taken) if use.holder else None,
            waiters=use.waiters and tuple(_one_with(waiter, taken) for waiter in use.waiters),
        )
        for use in lock.processes
    )
    return replace(lock, processes=tuple(uses))


def _one_with(thread: T, taken: Stacks) -> T:
    """Return it with its stack; the one that the snapshot has ends where the process was forked, and is kept."""
    if thread.stack is not None:
        return replace(thread, stack=_with_source(thread.process.pid, thread.stack))
    if thread.tid is None:
        mine = [stack for (process, _), stack in taken.of.items() if process == thread.process]
        return replace(thread, stack=mine[0]) if len(mine) == 1 else thread
    stack = taken.of.get((thread.process, thread.tid))
    return replace(thread, stack=stack) if stack is not None else thread


def _with_source(pid: int, stack: Stack) -> Stack:
    """Return it with the lines of the user's own source, of the innermost frames."""
    lines, shown, frames = SourceLines(pid), 0, []
    for frame in stack:
        wanted = frame.source is None and is_own(frame.file) and shown < _MOST_SOURCES
        shown += wanted
        frames.append(replace(frame, source=lines.line(frame.file, frame.line)) if wanted else frame)
    return tuple(frames)


# ---- one process


def _of_one(process: ProcessId, run: Run) -> Iterator[tuple[int, Stack]]:
    try:
        threads = json.loads(_run(process, run))
    except (ValueError, RecursionError):
        raise _Failed("py-spy gave no JSON") from None
    stat = read_stat(process.pid)
    if stat is None or stat.id != process or not isinstance(threads, list):
        return
    lines = SourceLines(process.pid)
    offset = _tid_offset(process.pid)
    for thread in threads:
        if isinstance(thread, dict) and (tid := _tid(process.pid, thread, stat.threads, offset)) is not None:
            yield tid, tuple(_frames(thread.get("frames"), lines))


def _run(process: ProcessId, run: Run) -> bytes:
    """Try again where the process moved under the reading, and not for long where it ended."""
    attempts = 1
    while True:
        try:
            return run(process.pid)
        except _Moved as error:
            if attempts == _ATTEMPTS or not still(process):
                raise _Failed(str(error)) from None
        attempts += 1


def _tid_offset(pid: int) -> int | None:
    try:
        with Memory(pid) as memory:
            return tid_offset(memory, read_mappings(pid) or (), innermost_ids(pid))
    except OSError:
        return None


def _tid(pid: int, thread: Mapping[str, Any], count: int, offset: int | None) -> int | None:
    """py-spy knows the kernel's id from 3.11 on, as the process's own pid namespace has it; before, CPython's alone."""
    pthread = thread.get("thread_id")
    if isinstance(pthread, int):
        try:
            with Memory(pid) as memory:
                tid = kernel_tid(memory, pid, pthread & (1 << 64) - 1, count, offset)
        except OSError:
            tid = None
        if tid is not None:
            return tid
    tid = thread.get("os_thread_id")
    return tid if isinstance(tid, int) and tid in thread_ids(pid) else None


def _frames(frames: object, lines: SourceLines) -> Iterator[Frame]:
    shown = 0
    for frame in frames[:_MOST_FRAMES] if isinstance(frames, list) else ():
        if not isinstance(frame, dict):
            continue
        file, line = _text(frame.get("filename")), frame.get("line")
        number = line if isinstance(line, int) and 0 < line < 1 << 31 else 0
        source = None
        if is_own(file) and shown < _MOST_SOURCES:
            shown += 1
            source = lines.line(file, number)
        yield Frame(_text(frame.get("name")), file, number, source)


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else "?"


# ---- py-spy


def _py_spy() -> Run | None:
    """Return the way to call it: next to this Python, else on the PATH."""
    neighbour = Path(sys.executable).with_name("py-spy")
    command = str(neighbour) if os.access(neighbour, os.X_OK) else shutil.which("py-spy")
    return None if command is None else lambda pid: _output(command, pid)


def _output(command: str, pid: int) -> bytes:
    try:
        with ThreadPoolExecutor(1) as apart:  # whose rights are its own
            popen = apart.submit(_start, command, pid).result()
    except OSError as error:
        raise _Failed(f"py-spy cannot be started: {error.strerror}") from None
    try:
        out, stderr = _listen(popen)
    finally:
        _end(popen)
    if popen.returncode:
        reason = _reason(stderr)
        raise _Failed(reason) if "ermi" in reason else _Moved(reason)  # permission denied, not permitted
    return out


def _start(command: str, pid: int) -> subprocess.Popen[bytes]:
    """Start it with the rights that it needs. This takes the others from the thread that calls it, for good."""
    privileges.drop_all_but(privileges.TO_READ_STACKS)
    return subprocess.Popen(
        [command, "dump", "--json", "--nonblocking", "--pid", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "RUST_BACKTRACE": "0", "RUST_LIB_BACKTRACE": "0"},  # so that its last line is the cause
    )


def _listen(popen: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return its output. Time and size are limited, for the target decides how much it would be."""
    assert popen.stdout is not None
    assert popen.stderr is not None
    printed: dict[int, bytearray] = {popen.stdout.fileno(): bytearray(), popen.stderr.fileno(): bytearray()}
    deadline = time.monotonic() + _ONE_S
    with selectors.DefaultSelector() as selector:
        for fd in printed:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise _Failed(f"py-spy took longer than {_ONE_S:g} s")
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                printed[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
            if sum(map(len, printed.values())) > _MOST_BYTES:
                raise _Failed("py-spy printed too much")
    try:
        popen.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise _Failed(f"py-spy took longer than {_ONE_S:g} s") from None
    return bytes(printed[popen.stdout.fileno()]), bytes(printed[popen.stderr.fileno()])


def _end(popen: subprocess.Popen[bytes]) -> None:
    """One that a hostile file system stops is left behind: it cannot even be killed."""
    for pipe in (popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
    popen.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(_ONE_S)


def _reason(stderr: bytes) -> str:
    """Its last line is the cause: `Reason: Operation not permitted`."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"py-spy: {lines[-1][:_LONGEST]}" if lines else "py-spy failed"
