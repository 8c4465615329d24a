"""Record acts: a line on stderr, and in a file a line of JSON before the act and one after it.

Nothing is done before the file has taken the line about what is about to be done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from semtrace.errors import SemtraceError
from semtrace.linux import safefile
from semtrace.linux.post import Word
from semtrace.model import Lock, NameSort
from semtrace.repairs.repair import Released
from semtrace.servers.processes import user_name
from semtrace.text import clean, counted, counted_names, iso

_NOTHING_DONE = "so nothing was done: name another file, or make room"


class Act(NamedTuple):
    """One act, done or about to be: `sentence` is for people, `record` for programs."""

    sentence: str
    record: dict[str, object]


class Audit:
    """Pass every act to `say`, and append it to the file if there is one: `intend`, act, `write` or `call_off`."""

    def __init__(self, path: str | None, say: Callable[[str], None]) -> None:
        """SemtraceError if the file cannot be opened: then nothing is to be done."""
        self._say = say
        self._path = path
        self._fd: int | None = None
        if path is not None:
            try:
                self._fd = safefile.append(Path(path))
            except OSError as error:
                raise SemtraceError(f"cannot open the audit file {path}: {error.strerror}", _NOTHING_DONE) from error

    def __enter__(self) -> Audit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def intend(self, act: Act) -> None:
        """Write an intended act into the file alone. SemtraceError if the file does not take it: then do not act."""
        if why_not := self._append(act):
            raise SemtraceError(f"cannot write to the audit file {self._path}: {why_not}", _NOTHING_DONE)

    def call_off(self, act: Act, error: BaseException) -> None:
        """Record that an intended act was not done. A failure to write this matters less than the reason for it. An
        interruption is printed here, for nobody else reports it.
        """
        interrupted = not isinstance(error, SemtraceError)
        why = "interrupted" if interrupted else str(error)
        self._append(Act("", {**act.record, "stage": "not done", "why": why}))
        if interrupted:
            self._tell(f"interrupted when {act.sentence}: not done")

    def write(self, act: Act) -> None:
        """SemtraceError if the file does not take it: the act is done, and stderr has it. Whether stderr takes it is of
        no account."""
        why_not = self._append(act)
        self._tell(act.sentence)
        if why_not:
            raise SemtraceError(
                f"done, but the audit file {self._path} did not take it: {why_not}", "its line is above"
            )

    def _tell(self, sentence: str) -> None:
        with suppress(OSError):
            self._say(sentence)

    def _append(self, act: Act) -> str | None:
        """Return why the file did not take it, else None; the line is then on the disk."""
        if self._fd is None:
            return None
        line = json.dumps({**act.record, **_who()}).encode() + b"\n"
        try:
            if (taken := os.write(self._fd, line)) < len(line):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - taken)
                return "it took only a part of the line"
            os.fsync(self._fd)
        except OSError as error:
            return os.strerror(error.errno or 0)
        return None


def release_intent(server: int, lock: Lock) -> Act:
    return Act(
        f"about to release {clean(lock.label)} [{lock.id}] of PID {server}",
        {
            "time": iso(time.time()),
            "act": "release",
            "stage": "about to",
            "pid": server,
            "lock": str(lock.id),
            "name": lock.name or lock.shm_name,
            "evidence": [lock.reason or "", *_waiting(lock)],
        },
    )


def clean_intent(names: Iterable[tuple[str, NameSort]]) -> Act:
    listed = list(names)
    record = {"time": iso(time.time()), "act": "clean", "stage": "about to", "pid": None}
    return Act(
        f"about to remove {counted_names((sort for _, sort in listed), 'leftover ')}",
        {**record, "names": [name for name, _ in listed]},
    )


def release_act(server: int, released: Released) -> Act:
    lock, before, after = released.lock, released.before, released.after
    return Act(
        f"released {clean(lock.label)} [{lock.id}] of PID {server}: value {before.value} -> {released.units}, "
        f"{counted(len(lock.waiters), 'waiter')}, {released.woken} woken",
        {
            "time": iso(released.at),
            "act": "release",
            "stage": "done",
            "pid": server,
            "lock": str(lock.id),
            "name": lock.name or lock.shm_name,
            "evidence": evidence(lock, released.still),
            "before": _state(before),
            "after": {**_state(after), "set_to": released.units, "woken": released.woken},
        },
    )


def clean_act(file: str, name: str, evidence: Iterable[str], before: dict[str, object]) -> Act:
    return Act(
        f"removed /dev/shm/{clean(name)} [{file}], which no process used",
        {
            "time": iso(time.time()),
            "act": "clean",
            "stage": "done",
            "pid": None,
            "lock": file,
            "name": name,
            "evidence": list(evidence),
            "before": before,
            "after": None,
        },
    )


def evidence(lock: Lock, still: bool) -> list[str]:
    """Return what was seen right before the act."""
    mapped = " ".join(map(str, sorted(process.pid for process in lock.mapped_by)))
    ran = (
        "no thread of theirs ran between the last sample and the act" if still else "some of their threads were running"
    )
    return [lock.reason or "", f"mapped by PID {mapped}: {ran}", *_waiting(lock)]


def _waiting(lock: Lock) -> list[str]:
    return [f"PID {w.pid} thread {w.tid} waits" for w in lock.waiters]


def _state(word: Word) -> dict[str, object]:
    return {"value": word.value, "waiters": word.waiters}


def _who() -> dict[str, object]:
    """Return the user who did it, and behind sudo the one who asked for it."""
    who: dict[str, object] = {"user": user_name(os.getpid())}
    if "SUDO_USER" in os.environ:
        who["sudo_user"] = os.environ["SUDO_USER"]
    return who
