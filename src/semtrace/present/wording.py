"""The phrases that sentences are made of: PIDs, threads, durations, locks. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from semtrace.model import FILE, IMPORT, Elapsed, LockRef, ProcessId, ThreadRef
from semtrace.text import age, clean, exact

_FEW = 4


def pids(numbers: Iterable[int]) -> str:
    """Return `PID 11, 12 and 5 more`, each once, in their order."""
    each = sorted(set(numbers))
    more = f" and {len(each) - _FEW} more" if len(each) > _FEW else ""
    return f"PID {', '.join(map(str, each[:_FEW]))}{more}"


def pids_of(processes: Iterable[ProcessId]) -> str:
    return pids(process.pid for process in processes)


def thread(process: ProcessId, tid: int | None) -> str:
    """Return `PID 11`, and which thread where it is not the first."""
    return f"PID {process.pid}" if tid in (None, process.pid) else f"PID {process.pid} (thread {tid})"


def thread_name(each: ThreadRef) -> str:
    return thread(each.process, each.tid)


def duration(elapsed: Elapsed | None, what: str = "hold") -> str:
    """Return ` for at least 3.2s`, exactly where events say it; of what every sample saw that it may have been several.
    Empty where it is not known.
    """
    if elapsed is None:
        return ""
    if elapsed.measure == "exact":
        return f" for {exact(elapsed.seconds) if elapsed.seconds < 1 else age(elapsed.seconds)}"
    if elapsed.measure == "samples":
        return f" in every sample over {age(elapsed.seconds)}, in one {what} or in several"
    return f" for at least {age(elapsed.seconds)}"


def lock_name(lock: LockRef) -> str:
    if lock.kind == IMPORT:
        return import_lock(lock.name)
    return variable_name(lock.name) if lock.variable else clean(lock.name)


def variable_name(name: str) -> str:
    """Return what to call a private lock of which only the variable is known by which a function reaches it."""
    return f"a private lock (variable {clean(name)})"


def import_lock(module: str) -> str:
    """Return `the import lock of module shop`; without a module that of all imports."""
    return f"the import lock of module {clean(module)}" if module else "the lock of all imports"


def lock_names(locks: Iterable[LockRef]) -> str:
    return ", ".join(map(lock_name, locks))


def lock_kind(lock: LockRef) -> str:
    """Return `app.a (a threading lock)` of a private one, `app.a (a Manager's lock)`, else its name."""
    if lock.id is not None or lock.variable or lock.kind == IMPORT:
        return lock_name(lock)
    if lock.kind == FILE:
        return f"{lock_name(lock)} (a file lock)"
    whose = "a Manager's" if lock.managed else "a threading"
    return f"{lock_name(lock)} ({whose} lock)"


def class_name(kind: str) -> str:
    """Return the class of a private lock with its article: `a threading.Lock`, `an asyncio.Lock`."""
    shown = clean(kind)
    return f"an {shown}" if kind.startswith("asyncio.") else f"a threading.{shown}"


def with_article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOR' else 'a'} {clean(kind)}"
