"""What multiprocessing's primitives are made of: from bare semaphores to the Queue or Condition that they belong to.

Pure. Without names (read from the interpreter) this is inference from the order of creation and the kinds, as
Lib/multiprocessing/synchronize.py and queues.py create them; where two readings are possible the plainer one is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, Kind, SemId

# A Queue without a limit starts its semaphore at SEM_VALUE_MAX; nobody counts a pool of resources by the billion.
_UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class Part:
    """A semaphore's place in a larger primitive. `signal`: it is not a lock, so its counts are no holders."""

    part_of: str
    signal: bool


@dataclass(frozen=True, slots=True)
class Made:
    """How a semaphore was made: SemLock's kind and maxvalue, and its value now."""

    id: SemId
    kind: int
    maxvalue: int
    value: int

    @property
    def letter(self) -> str:
        """L Lock, R RLock, B BoundedSemaphore, Q a Queue's own, S Semaphore."""
        if self.kind == RECURSIVE_MUTEX:
            return "R"
        if self.maxvalue == 1:
            return "L"
        if self.maxvalue < SEM_VALUE_MAX:
            return "B"
        return "Q" if self.value >= _UNLIMITED else "S"


def kind_of(kind: int, maxvalue: int) -> Kind:
    if kind == RECURSIVE_MUTEX:
        return "RLock"
    if maxvalue == 1:
        return "Lock"
    return "Semaphore" if maxvalue == SEM_VALUE_MAX else "BoundedSemaphore"


# In the order of trial: the longest first. Lower case marks the signals.
_PATTERNS = (
    ("JoinableQueue", ("LLqsRsss", "LLbsRsss")),
    ("Event", ("Lssss",)),
    ("Condition", ("Rsss", "Lsss")),
    ("Queue", ("LLq", "LLb")),
)


def parts(made: Sequence[Made], mapped_by: Mapping[SemId, frozenset[object]]) -> dict[SemId, Part]:
    """The semaphores that are parts, by id. `made` may come in any order; `mapped_by` keeps apart what different
    processes made, for a primitive's semaphores are always mapped together.
    """
    found: dict[SemId, Part] = {}
    for family in _families(made, mapped_by):
        letters = "".join(m.letter for m in family)
        at = 0
        while at < len(family):
            name, pattern = _match(letters, at)
            for member, mark in zip(family[at:], pattern, strict=False):
                found[member.id] = Part(f"{name} {family[at].id}", signal=mark.islower())
            at += len(pattern) or 1
    return found


def _families(made: Sequence[Made], mapped_by: Mapping[SemId, frozenset[object]]) -> Iterator[list[Made]]:
    """What the same processes map, in the order of creation: tmpfs numbers its files upwards (mm/shmem.c)."""
    families: dict[frozenset[object], list[Made]] = {}
    for m in sorted(made, key=lambda m: m.id):
        families.setdefault(mapped_by.get(m.id, frozenset()), []).append(m)
    yield from families.values()


def _match(letters: str, at: int) -> tuple[str, str]:
    for name, patterns in _PATTERNS:
        for pattern in patterns:
            if letters.startswith(pattern.upper(), at):
                return name, pattern
    return "", ""
