"""What a case expects of semtrace, in terms of its JSON: codes, severities, processes, threads, locks; never sentences.

Where the contract leaves a choice, a case names all that would be right: a thread that waits for itself may be a
`deadlock` or `stuck`, and a dead client's lock may be `orphaned-lock` or `stuck`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases.sickness import Sick

PROGRAMS = Path(__file__).parent / "programs"

STUCK = frozenset({"stuck", "deadlock"})
SLOW = frozenset({"long-hold", "long-wait"})
OF_THE_MACHINE = frozenset({"leaked-name", "shm-full"})
"""What other programs on this machine may have caused."""

Pids = Callable[[Sick], Collection[int]]


def root(sick: Sick) -> list[int]:
    return [sick.pid]


def children(sick: Sick) -> list[int]:
    return sick.children()


def grandchildren(sick: Sick) -> list[int]:
    return sick.grandchildren()


def child(number: int) -> Pids:
    return lambda sick: [sick.children()[number]]


def everybody(sick: Sick) -> list[int]:
    return sick.tree()


def said(word: str) -> Pids:
    """Return those whose PIDs the program has printed after this word."""

    def found(sick: Sick) -> list[int]:
        line = next(line for line in sick.output().splitlines() if line.startswith(word))
        return [int(part) for part in line.replace("[", " ").replace("]", " ").replace(",", " ").split()[1:]]

    return found


@dataclass(frozen=True)
class Found:
    """A finding that must be there: one of these codes with one of these severities."""

    codes: frozenset[str]
    severity: str
    pids: Pids | None = None
    """These must all be among its processes."""
    of: Pids | None = None
    """Its processes must all be of these, and there must be some."""
    lock: str = ""
    """Its lock's name must end so."""
    place: str = ""
    """The place of a thread must be the line of the program with this comment."""
    nowhere: str = ""
    """No thread's place may be this line: a line of the parent, which a child's frames still show below the fork."""

    def missing(self, report: dict[str, Any], sick: Sick, program: str) -> str:
        """Return what no finding has, "" if one has all."""
        candidates = [finding for finding in report["findings"] if finding["code"] in self.codes]
        if not candidates:
            return f"no finding {'/'.join(sorted(self.codes))}"
        faults = [", ".join(self._faults(finding, sick, program)) for finding in candidates]
        return "" if "" in faults else "; ".join(faults)

    def _faults(self, finding: dict[str, Any], sick: Sick, program: str) -> Iterator[str]:
        if finding["severity"] not in self.severity.split("/"):
            yield f"{finding['code']} is a {finding['severity']}, not {self.severity}"
        pids = {thread["pid"] for thread in finding.get("threads") or ()} | set(finding["pids"])
        if self.pids and not pids.issuperset(self.pids(sick)):
            yield f"its PIDs {sorted(pids)} lack some of {sorted(self.pids(sick))}"
        if self.of and not (pids and pids.issubset(self.of(sick))):
            yield f"its PIDs {sorted(pids)} are not all of {sorted(self.of(sick))}"
        if self.lock and not str(finding["name"]).endswith(self.lock):
            yield f"its lock is {finding['name']}, not {self.lock}"
        if finding["code"] in STUCK and not isinstance(finding.get("since_s"), (int, float)):
            yield "since_s is not told"
        places = [thread.get("place") for thread in finding.get("threads") or ()]
        if self.nowhere and any(is_place(place, program, self.nowhere) for place in places):
            yield f"a thread is at {program}.py:{line_of(program, self.nowhere)}, from before the fork"
        if self.place and not any(is_place(place, program, self.place) for place in places):
            yield f"no thread is at {program}.py:{line_of(program, self.place)}"


@dataclass(frozen=True)
class Waits:
    """Waits that dump must show: one of one of these kinds in each of these processes."""

    pids: Pids
    kind: str
    """Kinds separated by `/`."""
    stuck: bool | None = None
    timed: bool | None = False

    def missing(self, report: dict[str, Any], sick: Sick) -> str:
        waits = [wait for wait in report.get("waits") or () if wait["kind"] in self.kind.split("/")]
        if self.stuck is not None:
            waits = [wait for wait in waits if bool(wait["stuck"]) == self.stuck]
        if self.timed is not None:
            waits = [wait for wait in waits if bool(wait["timed"]) == self.timed]
        without = set(self.pids(sick)) - {wait["pid"] for wait in waits}
        marks = {True: " that is stuck", False: " that is not stuck", None: ""}[self.stuck]
        return f"no wait {self.kind}{marks} of {sorted(without)}" if without else ""


@dataclass(frozen=True)
class Expected:
    """All that is asked of one case."""

    found: tuple[Found, ...] = ()
    waits: tuple[Waits, ...] = ()
    never: frozenset[str] = frozenset({"inherited-hold", "orphaned-lock"})
    """Codes that must not appear, whatever their severity."""
    quiet: bool = False
    """No warning and no error, but of those that are not of the server."""
    exit: int | None = None
    """doctor's exit code; None: 3 if an error is expected, else 0."""
    stuck: dict[str, int] = field(default_factory=dict)
    """Counts of dump's `stuck` that must be at least so high; `threads: 0` means exactly none."""

    def wrong(self, doctor: dict[str, Any]) -> list[str]:
        """Return which findings there must not be, at any moment."""
        found = doctor["findings"]
        never = [f"wrong: {each['code']}: {each['title']}" for each in found if each["code"] in self.never]
        alarms = [each for each in found if self.quiet and each["severity"] in ("error", "warning")]
        alarms = [each for each in alarms if each["code"] not in OF_THE_MACHINE | self.never]
        return never + [f"false alarm: {each['severity']} {each['code']}: {each['title']}" for each in alarms]

    def missing(self, code: int, doctor: dict[str, Any], dump: dict[str, Any], sick: Sick, program: str) -> list[str]:
        """Return what the answers lack, nothing if all is there. It may come later on a busy machine."""
        return [fault for fault in self._missing(code, doctor, dump, sick, program) if fault]

    def _missing(
        self, code: int, doctor: dict[str, Any], dump: dict[str, Any], sick: Sick, program: str
    ) -> Iterator[str]:
        for found in self.found:
            yield found.missing(doctor, sick, program)
        error = any(found.severity == "error" for found in self.found)
        wanted = self.exit if self.exit is not None else 3 if error else 0
        if code != wanted and not (self.exit is None and any("/" in found.severity for found in self.found)):
            yield f"exit code {code}, not {wanted}"
        for waits in self.waits:
            yield waits.missing(dump, sick)
        yield from self._stuck(dump)

    def _stuck(self, dump: dict[str, Any]) -> Iterator[str]:
        counted = dump.get("stuck") or {}
        for name, least in self.stuck.items():
            number = counted.get(name)
            if number is None or number < least or (least == 0 and number > 0):
                yield f"stuck {name}: {number}, not {least}"


def line_of(program: str, comment: str) -> int:
    lines = (PROGRAMS / f"{program}.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


def is_place(place: object, program: str, comment: str) -> bool:
    """Return True if it is the line of the program that ends with this comment, however a place is written."""
    return f"{program}.py" in str(place) and str(line_of(program, comment)) in str(place)
