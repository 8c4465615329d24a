"""Find the Queue or Condition that bare semaphores belong to.

Pure. The Python objects that have a semaphore show what it is a part of. Where they cannot be read this is inference
from the order of creation and the kinds, as Lib/multiprocessing/synchronize.py and queues.py create them. A user who
makes two Locks and a BoundedSemaphore in a row makes the same as a Queue, so no verdict may rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, SemId

# A Queue without a limit starts its semaphore at SEM_VALUE_MAX; nobody counts a pool of resources by the billion.
_UNLIMITED = 1 << 30


@dataclass(frozen=True)
class Part:
    """A semaphore's place in a larger primitive. `signal`: it is not a lock, so its counts are no holders.

    `owner_kind` is the class of that primitive and `attribute` the one that has the semaphore, where its Python objects
    were found. `guessed`: only the order of creation speaks for it, since they could not be found, or have not been
    searched for yet (`pending`).
    """

    part_of: str
    signal: bool
    owner_kind: str | None = None
    attribute: str | None = None
    guessed: bool = False
    pending: bool = False


@dataclass(frozen=True)
class Made:
    """The making of a semaphore: SemLock's kind and maxvalue, and its value now."""

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


def kind_of(kind: int, maxvalue: int) -> str:
    """Return the class that makes such a semaphore; a BoundedSemaphore(1) looks like a Lock."""
    if kind == RECURSIVE_MUTEX:
        return "RLock"
    if maxvalue == 1:
        return "Lock"
    return "Semaphore" if maxvalue == SEM_VALUE_MAX else "BoundedSemaphore"


# Attributes of multiprocessing's primitives that are semaphores but not locks: one process takes what another gives.
_SIGNALS = frozenset({"_sleeping_count", "_woken_count", "_wait_semaphore", "_flag", "_unfinished_tasks", "_sem"})


def is_signal(name: str) -> bool:
    """Return True for the name of a piece of a larger primitive, if that piece is one that nobody holds."""
    return name.rpartition(".")[2] in _SIGNALS


# In the order of trial: the longest first. A capital is a lock, a small letter a signal. `z` is one that is at 0, as
# all but the first of a Condition are unless somebody is just being woken, and `f` is at 0 or 1.
_PATTERNS = (
    ("JoinableQueue", ("LLqsRszz", "LLbsRszz")),
    ("Event", ("Lszzf",)),
    ("Condition", ("Rszz", "Lszz")),
    ("Queue", ("LLq", "LLb")),
)
_LONGEST = max(len(pattern) for _, patterns in _PATTERNS for pattern in patterns)


def parts(made: Sequence[Made], mapped_by: Mapping[SemId, frozenset[object]]) -> dict[SemId, Part]:
    """The semaphores that are parts, by id. `made` may come in any order; `mapped_by` keeps apart what different
    processes made, for a primitive's semaphores are always mapped together.
    """
    found: dict[SemId, Part] = {}
    for family in _families(made, mapped_by):
        at = 0
        while at < len(family):
            next_ones = family[at : at + _LONGEST]  # never all that follow: there may be thousands
            name, pattern = _match(next_ones)
            for member, mark in zip(next_ones, pattern, strict=False):
                found[member.id] = Part(f"{name} {family[at].id}", signal=mark.islower())
            at += len(pattern) or 1
    return found


def _families(made: Sequence[Made], mapped_by: Mapping[SemId, frozenset[object]]) -> Iterator[list[Made]]:
    """Group the semaphores that the same processes map, in the order of creation: tmpfs numbers its files upwards
    (mm/shmem.c).
    """
    families: dict[frozenset[object], list[Made]] = {}
    for m in sorted(made, key=lambda m: m.id):
        families.setdefault(mapped_by.get(m.id, frozenset()), []).append(m)
    yield from families.values()


def _match(family: Sequence[Made]) -> tuple[str, str]:
    for name, patterns in _PATTERNS:
        for pattern in patterns:
            if len(pattern) <= len(family) and all(map(_fits, family, pattern)):
                return name, pattern
    return "", ""


def _fits(made: Made, mark: str) -> bool:
    if mark in "zf":
        return made.letter == "S" and made.value <= (mark == "f")
    return made.letter == mark.upper()
