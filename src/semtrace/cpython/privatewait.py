"""Decide what a thread waits for that sleeps in a futex on private memory: a lock, a signal, a thread's end, …

`WaitKind.UNKNOWN` stands for every wait in which no Python object was found: a mutex of a C library, OpenMP, a database
driver. Only a thread that sleeps before and after the sample has a true answer. The caller sees to that.
"""

from __future__ import annotations

from enum import Enum

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Class, Form
from semtrace.cpython.lockpaths import Step, Target, Way, is_buffered, is_library, matches, ways_to
from semtrace.cpython.pools import PoolResult, pool_result
from semtrace.cpython.stack import PyFrame, PyThread, Sample
from semtrace.cpython.threadends import Awaited, awaited_thread
from semtrace.cpython.threadlock import parked_at, resolve
from semtrace.cpython.variables import local
from semtrace.lazydata import dataclass, replace

# Include/internal/pycore_runtime.h: `_PyRuntime` is static, and so is the main interpreter from 3.12 on. The condition
# variable of the GIL lies in it (up to 3.11 ceval.gil, then the main interpreter's _gil). Its size, as the symbol table
# of each version says on x86-64 (3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0, 3.14.10, 3.15.2).
_RUNTIME_SIZES = {
    (3, 8): 1464,
    (3, 9): 656,
    (3, 10): 672,
    (3, 11): 0x28B20,
    (3, 12): 0x704A8,
    (3, 13): 0x452B8,
    (3, 14): 0x4D4C8,
    (3, 15): 0x549C8,
}
_MOST_BUFFERED = 32
# Modules that wait through threading.Condition or a lock, so that the waiting object is one of theirs. Those of
# multiprocessing have copies in installed packages (billiard, multiprocess, loky).
_PRIMITIVES = ("/threading.py", "/queue.py", "/concurrent/futures/", "/multiprocessing/", "/asyncio/")
_COPIED = ("/pool.py", "/queues.py", "/managers.py", "/synchronize.py", "/connection.py")
_IMPORTS = "<frozen importlib._bootstrap>"


class WaitKind(Enum):
    LOCK = "a threading.Lock"
    RLOCK = "a threading.RLock"
    CONDITION = "a signal: of a Condition, Event, Barrier, Semaphore, Future or queue"
    THREAD_END = "the end of a thread"
    IMPORT_LOCK = "a module that another thread imports"
    BUFFERED = "the lock of a buffered file"
    LOGGING = "a lock of the logging module"
    GIL = "the interpreter lock: the thread could run"
    UNKNOWN = "something that no Python object was found for"


@dataclass(frozen=True)
class PrivateWait:
    """The thing that a thread waits for.

    `lock` is the address of the object that a name book knows: the lock, for CONDITION the Condition's own inner lock
    (the thread sleeps in another one), None without one. `locked` is True if that lock is locked. `owner_pthread` is
    its owner's pthread id and `depth` how often it is held, where the lock keeps them. The id lies at `owner_at`: the
    owner may change while the thread sleeps, for a release wakes one waiter only. `ways` lead to the lock, `primitive`
    is the class of the object that waits (`queue.Queue`), at `primitive_address`, and `operation` its method. `thread`
    is the one whose end is awaited, `module` the one that is being imported. `result` is set for a wait for the result
    of a Pool's job.
    """

    kind: WaitKind
    lock: int | None = None
    locked: bool | None = None
    owner_pthread: int | None = None
    depth: int | None = None
    ways: tuple[Way, ...] = ()
    primitive: str | None = None
    primitive_address: int | None = None
    operation: str | None = None
    thread: Awaited | None = None
    module: str | None = None
    owner_at: int | None = None
    result: PoolResult | None = None

    @property
    def member(self) -> Step | None:
        """Return the class and attribute that keep the lock, as `queue.Queue`, `mutex`: a library's before the user's,
        and of several the outermost.
        """
        stepped = [way for way in self.ways if way.steps]
        libraries = [way for way in stepped if is_library(way.frame.file)]
        return (libraries or stepped)[-1].steps[-1] if stepped else None

    @property
    def user_way(self) -> Way | None:
        """Return the way from a variable of the user's own code, of several the innermost."""
        own = (way for way in self.ways if way.variable and not is_library(way.frame.file))
        return next(own, None)


def private_wait(sample: Sample, thread: PyThread, futex: int) -> PrivateWait:
    """Return what the thread waits for that sleeps in a futex on the word at this address."""
    if 0 <= futex - sample.runtime < _RUNTIME_SIZES.get(sample.objects.layout.version, 0):
        return PrivateWait(WaitKind.GIL)
    if not thread.frames:
        return PrivateWait(WaitKind.UNKNOWN)
    target = _target(sample, futex)
    innermost = thread.frames[0]
    if (ended := awaited_thread(sample, innermost, target)) is not None:
        return PrivateWait(WaitKind.THREAD_END, thread=ended)
    if (signal := _condition(sample, thread, target)) is not None:
        return replace(signal, result=pool_result(sample, thread.frames))
    return _import_lock(sample, innermost) or _by_object(sample, thread, target) or PrivateWait(WaitKind.UNKNOWN)


def _target(sample: Sample, futex: int) -> Target:
    """Python/parking_lot.c is there from 3.13 on, where locks still have a sem_t (Python/thread_pthread.h)."""
    mutex = parked_at(sample.objects.pages, futex) if sample.objects.layout.version >= (3, 13) else None
    return Target(futex, False) if mutex is None else Target(mutex, True)


def _condition(sample: Sample, thread: PyThread, target: Target) -> PrivateWait | None:
    """Lib/threading.py Condition.wait, 3.8 to 3.15: each waiter sleeps in a lock of its own, its variable `waiter`."""
    frame = thread.frames[0]
    waiter = local(sample, frame, "waiter") if frame.function == "wait" else 0
    cls = sample.classes.of(waiter)
    if cls is None or cls.form is not Form.THREAD_LOCK or not matches(sample, waiter, cls, target):
        return None
    condition = local(sample, frame, "self")
    kind = sample.classes.of(condition)
    inner = resolve(sample.objects, sample.classes, condition, kind) if kind and kind.form is Form.CONDITION else None
    primitive, operation = _primitive(sample, thread)
    found = PrivateWait(
        WaitKind.CONDITION, primitive=_class_name(sample, primitive), primitive_address=primitive, operation=operation
    )
    return found if inner is None else _with_state(sample, found, inner[0], inner[1])


def _primitive(sample: Sample, thread: PyThread) -> tuple[int | None, str | None]:
    """Return the outermost object whose methods the thread is in, and the outermost of these methods."""
    found: tuple[int | None, str | None] = (None, None)
    for frame in thread.frames:
        if not _is_primitives(frame.file):
            break
        address = local(sample, frame, "self")
        if not address or frame.function in ("run", "_bootstrap", "_bootstrap_inner"):
            break
        found = address, frame.function
    return found


def _is_primitives(file: str) -> bool:
    copied = file.endswith(_COPIED) and is_library(file)
    return copied or any(part in file for part in _PRIMITIVES)


def _import_lock(sample: Sample, frame: PyFrame) -> PrivateWait | None:
    """Lib/importlib/_bootstrap.py, 3.8 to 3.15: _ModuleLock with `name` and `owner`; _ImportLockContext, the lock of
    all imports. An extension module that blocks while it is loaded waits for something else.
    """
    address = local(sample, frame, "self") if frame.file.startswith(_IMPORTS) else 0
    cls = sample.classes.of(address)
    if cls is None or cls.name not in ("_ModuleLock", "_ImportLockContext"):
        return None
    if cls.name == "_ImportLockContext":
        return PrivateWait(WaitKind.IMPORT_LOCK)
    name = sample.objects.text(sample.classes.attribute(address, cls, "name"))
    owner = sample.objects.integer(sample.classes.attribute(address, cls, "owner"))
    return PrivateWait(WaitKind.IMPORT_LOCK, lock=address, owner_pthread=owner or None, module=name)


def _by_object(sample: Sample, thread: PyThread, target: Target) -> PrivateWait | None:
    ways = ways_to(sample, thread.frames, target)
    if not ways:
        return None
    address, cls = ways[0].address, ways[0].cls
    if is_buffered(cls):
        return _buffered(sample, address, cls, target.word, ways)
    if cls.form not in (Form.THREAD_LOCK, Form.THREAD_RLOCK):
        name = f"{cls.module}.{cls.name}"
        return PrivateWait(WaitKind.CONDITION, ways=ways, primitive=name, primitive_address=address, operation="get")
    if "/logging/" in thread.frames[0].file and cls.form is Form.THREAD_RLOCK:
        kind = WaitKind.LOGGING
    else:
        kind = WaitKind.RLOCK if cls.form is Form.THREAD_RLOCK else WaitKind.LOCK
    return _with_state(sample, PrivateWait(kind, ways=ways), address, cls)


def _buffered(sample: Sample, address: int, cls: Class, word: int, ways: tuple[Way, ...]) -> PrivateWait:
    """Modules/_io/bufferedio.c buffered: `owner`, a pthread id, follows `lock`, a pointer to a sem_t (3.8 to 3.14) or
    to a PyMutex (3.15).
    """
    words = sample.objects.pages.words(address, min(cls.basicsize // 8, _MOST_BUFFERED))
    following = words[words.index(word) + 1 :] if word in words else ()
    owner = following[0] if following else None
    owner_at = address + 8 * (len(words) - len(following)) if following else None
    name = f"{cls.module}.{cls.name}"
    return PrivateWait(
        WaitKind.BUFFERED,
        address,
        True,
        owner or None,
        ways=ways,
        primitive=name,
        primitive_address=address,
        owner_at=owner_at,
    )


def _with_state(sample: Sample, wait: PrivateWait, address: int, cls: Class) -> PrivateWait:
    """Return the wait with the lock's state, owner and depth (Modules/_threadmodule.c lockobject, rlockobject)."""
    layout, pages = sample.objects.layout, sample.objects.pages
    owner = depth = None
    if cls.form is Form.THREAD_LOCK:
        locked = bool(pages.u8(address + layout.lock_locked) & 1)
    elif layout.parked:  # lock.h _PyRecursiveMutex: level 0 is held once
        locked = bool(pages.u8(address + at.LOCK_MUTEX) & 1)
        depth = pages.u64(address + _RLOCK_LEVEL) + 1 if locked else 0
    else:
        depth = pages.u64(address + layout.rlock_count)
        locked = depth > 0
    if cls.form is Form.THREAD_RLOCK and locked:
        owner = pages.u64(address + at.RLOCK_OWNER) or None
    return PrivateWait(
        wait.kind,
        address,
        locked,
        owner,
        depth,
        wait.ways,
        wait.primitive,
        wait.primitive_address,
        wait.operation,
        owner_at=address + at.RLOCK_OWNER if cls.form is Form.THREAD_RLOCK else None,
    )


def _class_name(sample: Sample, address: int | None) -> str | None:
    cls = sample.classes.of(address or 0)
    return f"{cls.module}.{cls.name}" if cls is not None else None


_RLOCK_LEVEL = 32  # Include/internal/pycore_lock.h 3.14 _PyRecursiveMutex.level, in an rlockobject
