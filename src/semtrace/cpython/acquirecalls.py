"""Find out whether a frame is behind a call of `lock.acquire()` in its code, and before the release."""

from __future__ import annotations

from collections.abc import Container, Iterator

from semtrace.cpython.budget import Budget
from semtrace.cpython.bytecode import Lookup, Root, attribute_of, lookups, value_of
from semtrace.cpython.classes import Form
from semtrace.cpython.stack import PyFrame, Sample, line_of
from semtrace.cpython.withblocks import locks_of
from semtrace.lazydata import dataclass

_WORDS = frozenset({"acquire", "release"})


@dataclass(frozen=True)
class Taken:
    """A lock that a frame's code has acquired before its instruction, and not released since. `line` is that of the
    acquire, `released` is True if a release follows, `tested` if the code looks at what acquire returned.
    """

    lock: int
    line: int | None
    released: bool
    tested: bool


def taken_between(
    sample: Sample, frame: PyFrame, locks: Container[int], budget: Budget, waited: int = 0
) -> Iterator[Taken]:
    """Yield those of the locks that the frame's code acquires before its instruction and does not release up to there.

    `waited` is the lock that the thread sleeps in, if this is its innermost frame: the acquire that it is in does not
    count.
    """
    calls: dict[int, list[Lookup]] = {}
    for found in lookups(sample.objects, frame.code, _WORDS):
        if budget.spent():
            return
        budget.looked_at += 1
        value = value_of(sample.objects, sample.classes, frame.address, frame.code, found)
        for lock in _locks_behind(sample, budget, value, found.name) if value else ():
            if lock in locks:
                calls.setdefault(lock, []).append(found)
    for lock, found_calls in calls.items():
        taken = _taken(sample, frame, lock, found_calls, waited == lock)
        if taken is not None:
            yield taken


def _taken(sample: Sample, frame: PyFrame, lock: int, calls: list[Lookup], waits: bool) -> Taken | None:
    before = [call for call in calls if call.offset < frame.instruction]
    if waits and before and before[-1].name == "acquire" and not _has_entered(before[-1], frame):
        before.pop()
    acquired = before[-1] if before else None
    if acquired is None or acquired.name != "acquire" or acquired.done is None or acquired.done > frame.instruction:
        return None
    released = any(call.name == "release" and call.offset >= frame.instruction for call in calls)
    return Taken(lock, line_of(sample.objects, frame.code, acquired.offset), released, acquired.kept)


def _has_entered(acquired: Lookup, frame: PyFrame) -> bool:
    """Return True if the thread sleeps in a `with` behind this acquire, not in the acquire itself."""
    return acquired.enters is not None and acquired.enters <= frame.instruction


def _locks_behind(sample: Sample, budget: Budget, value: int, name: str) -> Iterator[int]:
    """Yield the object itself, the lock of multiprocessing's around which it is, and the one that its own method of
    this name acquires or releases.
    """
    yield from locks_of(sample.objects, sample.classes, budget, value, 0)
    cls = sample.classes.of(value)
    if cls is None or cls.form is not Form.INSTANCE:
        return
    method = attribute_of(sample.objects, sample.classes, value, name)
    kind = sample.classes.of(method)
    if kind is None or kind.form is not Form.FUNCTION:
        return
    code = sample.objects.pages.u64(method + sample.objects.layout.function_code)
    called = [each for each in lookups(sample.objects, code, _WORDS) if (each.root, each.value) == (Root.LOCAL, 0)]
    paths = {each.path for each in called if each.name == name} - {each.path for each in called if each.name != name}
    for path in paths:
        inner = value
        for attribute in path:
            inner = attribute_of(sample.objects, sample.classes, inner, attribute) if inner else 0
        if path and inner:
            yield from locks_of(sample.objects, sample.classes, budget, inner, 0)
