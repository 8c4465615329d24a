"""The phrases that findings are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semtrace.model import Frame, Holder, Lock, ProcessId, Waiter
from semtrace.rules.basis import unbroken_s, unbroken_wait_s
from semtrace.text import age, clean, counted, exact
from semtrace.text import label as label

_FEW = 4

# Where frames lie that are not the user's own. Python's own modules have no common folder in a stack.
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/semtrace/instrument/", "<frozen ", "<string>")


def at_least(seconds: float | None, evidence: str = "memory") -> str:
    """` for 3.2s`: exactly where events say it, else the lower bound that looking gives; nothing where that is none."""
    if seconds is None:
        return ""
    if evidence == "events":
        return f" for {exact(seconds) if seconds < 1 else age(seconds)}"
    return f" for at least {age(seconds)}"


def pids(numbers: Iterable[int]) -> str:
    """`PID 11, 12 and 5 more`, each once, in their order."""
    each = sorted(set(numbers))
    more = f" and {len(each) - _FEW} more" if len(each) > _FEW else ""
    return f"PID {', '.join(map(str, each[:_FEW]))}{more}"


def thread(process: ProcessId, tid: int | None) -> str:
    """`PID 11`, and which thread where it is not the first."""
    return f"PID {process.pid}" if tid in (None, process.pid) else f"PID {process.pid} (thread {tid})"


def waiting(lock: Lock) -> list[str]:
    """Who waits and for how long; nothing where nobody does."""
    if not lock.waiters:
        return []
    longest = max(lock.waiters, key=lambda waiter: (unbroken_wait_s(waiter) or 0.0, waiter.for_s or 0.0))
    who = pids(waiter.pid for waiter in lock.waiters)
    many = counted(len(lock.waiters), "thread waits", "threads wait")
    since = _how_long(unbroken_wait_s(longest), longest.for_s, longest.evidence, "in one wait or in several")
    one = "" if len(lock.waiters) == 1 else ", the longest"
    return [f"{many} for it{one if since else ''}{since}: {who}", *where(lock.waiters)]


def waiting_pids(lock: Lock) -> tuple[int, ...]:
    """Each process once, in the order of the waiters."""
    return tuple(dict.fromkeys(waiter.pid for waiter in lock.waiters))


def holding(lock: Lock) -> list[str]:
    """Who holds it and for how long."""
    lines = []
    for holder in lock.holders[:_FEW]:
        since = _how_long(unbroken_s(lock, holder), holder.since_s, holder.evidence, "in one hold or in several")
        doubt = "" if holder.certain else ", which is not certain"
        lines.append(f"held by {thread(holder.process, holder.tid)}{since}{doubt}")
    return [*lines, *where(lock.holders)]


def _how_long(sure_s: float | None, seen_s: float | None, evidence: str, several: str) -> str:
    """For how long at least; where looking cannot tell one long from many short ones, for how long it looked so."""
    if sure_s or not seen_s:
        return at_least(sure_s or None, evidence)
    return f", as at every look for {age(seen_s)}, {several}"


def where(threads: Sequence[Holder | Waiter]) -> list[str]:
    """The line of the user's own source that each is at, those at the same line together."""
    places: dict[str, list[int]] = {}
    for each in threads:
        place = place_of(each)
        if place is not None:
            places.setdefault(place, []).append(each.pid)
    return [f"{pids(who)} at {place}" for place, who in list(places.items())[:_FEW]]


def place_of(each: Holder | Waiter) -> str | None:
    """`bank.py:42 in withdraw: with lock:`, by the stack, and who called that; else the site that the traced lock told.

    The innermost frame of the user's own code; the innermost of all if none is.
    """
    frames = [frame for frame in each.stack or () if is_own(frame.file)] or list(each.stack or ())[:1]
    if not frames:
        return clean(each.site) if each.site else None
    inner, *outer = frames
    source = f": {clean(inner.source)}" if inner.source else ""
    caller = f" (called by {_at(outer[0])})" if outer else ""
    return f"{_at(inner)}{caller}{source}"


def _at(frame: Frame) -> str:
    return f"{clean(frame.file)}:{frame.line} in {clean(frame.function)}"


def is_own(file: str) -> bool:
    """False for what lies in a library: by its folder, as it is not known where the target's Python is installed. And
    for the script by which an environment starts a program, as `…/bin/gunicorn`."""
    folder, slash, name = file.rpartition("/")
    if not slash and not name.endswith(".py"):
        return False  # `__init__`, `<frozen …>`: a frame that the interpreter itself makes
    if folder.rpartition("/")[2] == "bin" and "." not in name:
        return False
    if any(part in file for part in _LIBRARIES):
        return False
    return not any(part.startswith("python3") or part == "python3" for part in folder.split("/")[-4:])
