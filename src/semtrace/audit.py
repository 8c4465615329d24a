"""What was done, written down: one line on stderr, and one of JSON in a file that is opened before anything is done."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

from semtrace.errors import SemtraceError
from semtrace.linux.post import Word
from semtrace.model import Lock
from semtrace.processes import user_name
from semtrace.repair import Released
from semtrace.text import clean, iso


class Act(NamedTuple):
    """One act: `sentence` is for people, `record` for programs."""

    sentence: str
    record: dict[str, object]


class Audit:
    """Tells every act to `say`, and appends it to the file if there is one."""

    def __init__(self, path: str | None, say: Callable[[str], None]) -> None:
        """SemtraceError if the file cannot be opened: then nothing is to be done."""
        self._say = say
        self._path = path
        self._fd: int | None = None
        if path is not None:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise SemtraceError(
                    f"cannot open the audit file {path}: {error.strerror}", "so nothing was done: name another file"
                ) from error

    def __enter__(self) -> Audit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def write(self, act: Act) -> None:
        """SemtraceError if the file does not take it: the act is done, and stderr has it."""
        self._say(act.sentence)
        if self._fd is None:
            return
        line = json.dumps({**act.record, **_who()}).encode() + b"\n"
        try:
            whole = os.write(self._fd, line) == len(line)
        except OSError as error:
            raise SemtraceError(
                f"done, but the audit file {self._path} did not take it: {error.strerror}", "its line is above"
            ) from error
        if not whole:
            raise SemtraceError(f"done, but the audit file {self._path} took only a part of it", "its line is above")


def release_act(server: int, released: Released) -> Act:
    lock, before, after = released.lock, released.before, released.after
    return Act(
        f"released {clean(lock.label)} [{lock.id}] of PID {server}: value {before.value} -> {released.units}, "
        f"{_count(len(lock.waiters), 'waiter')}, {released.woken} woken",
        {
            "time": iso(released.at),
            "act": "release",
            "pid": server,
            "lock": str(lock.id),
            "name": lock.name or lock.shm_name,
            "evidence": evidence(lock, released.still),
            "before": _state(before),
            "after": {**_state(after), "set_to": released.units, "woken": released.woken},
        },
    )


def clean_act(semaphore: str, name: str, evidence: Iterable[str], before: dict[str, object]) -> Act:
    return Act(
        f"removed /dev/shm/{clean(name)} [{semaphore}], which no process mapped",
        {
            "time": iso(time.time()),
            "act": "clean",
            "pid": None,
            "lock": semaphore,
            "name": name,
            "evidence": list(evidence),
            "before": before,
            "after": None,
        },
    )


def evidence(lock: Lock, still: bool) -> list[str]:
    """What was seen right before the act."""
    mapped = " ".join(str(process.pid) for process in lock.mapped_by)
    waiting = [f"PID {w.pid} thread {w.tid} waits" for w in lock.waiters]
    ran = "no thread of theirs ran between the last look and the act" if still else "some of their threads were running"
    return [lock.reason or "", f"mapped by PID {mapped}: {ran}", *waiting]


def _state(word: Word) -> dict[str, object]:
    return {"value": word.value, "waiters": word.waiters}


def _who() -> dict[str, object]:
    """The user who did it, and behind sudo the one who asked for it."""
    who: dict[str, object] = {"user": user_name(os.getpid())}
    if "SUDO_USER" in os.environ:
        who["sudo_user"] = os.environ["SUDO_USER"]
    return who


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
