"""Marks of a server that moves, and the recorder that needs no snapshot while they stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from support import wait_until
from support.snapshots import pid, snapshot

from semtrace.model import SemId
from semtrace.observe.watch.marks import marks_of
from semtrace.record import recorder
from semtrace.record.recorder import Recorder, Wanted
from semtrace.record.sink import File

LOCK = SemId(0, 27, 5)


def fleet(process: int, value: tuple[int, int] | None = (1, 0), threads: int = 1) -> Any:
    mapper = SimpleNamespace(read_semaphore=lambda semaphore: value)
    watched = SimpleNamespace(id=pid(process), stat=SimpleNamespace(threads=threads))
    return SimpleNamespace(with_guests=[watched], mappers={LOCK: [mapper]})


def test_marks_change_when_a_thread_runs_or_a_semaphore_changes() -> None:
    command = [sys.executable, "-c", "import sys\nfor line in sys.stdin: pass"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        syscall = Path(f"/proc/{child.pid}/syscall")
        wait_until(lambda: syscall.read_text().startswith("0 0x0 "), what="the child to read")
        wait_until(lambda: marks_of(fleet(child.pid)) == marks_of(fleet(child.pid)), what="the child to sleep")
        before = marks_of(fleet(child.pid))
        assert before is not None
        assert before != marks_of(fleet(child.pid, (0, 0)))
        assert before != marks_of(fleet(child.pid, (1, 1)))
        child.stdin.write("x\n")
        child.stdin.flush()
        wait_until(lambda: marks_of(fleet(child.pid)) != before, what="the child to have run")
        child.stdin.close()
        child.wait()
        assert marks_of(fleet(child.pid)) is None


def test_what_cannot_be_seen_is_no_mark() -> None:
    assert marks_of(fleet(2**22 + 1)) is None
    with subprocess.Popen(["sleep", "60"]) as child:
        assert marks_of(fleet(child.pid, None)) is None
        with patch("semtrace.observe.watch.marks._MOST_THREADS", 0):
            assert marks_of(fleet(child.pid)) is None
        child.kill()


@pytest.mark.parametrize(
    ("marks", "passed_s", "taken"),
    [
        ([1, 1, 1, 1], 0.2, 1),
        ([1, 1, 2, 2], 0.2, 2),
        ([None, None, None, None], 0.2, 4),
        ([1, None, 1, 1], 0.2, 3),
        ([1, 1, 1, 1], 0.5, 2),
        ([1, 1, 1, 1], 1.5, 4),
    ],
)
def test_a_recorder_skips_only_what_would_say_the_same(
    marks: list[object], passed_s: float, taken: int, tmp_path: Path
) -> None:
    left = iter(marks)
    observer = SimpleNamespace(marks=lambda: next(left), snapshot=snapshot, close=lambda: None)
    now = SimpleNamespace(value=100.0)
    clock = SimpleNamespace(monotonic=lambda: now.value, monotonic_ns=lambda: int(now.value * 1e9), time=lambda: 1e9)
    with patch.object(recorder, "Observer", lambda *_, **__: observer), patch.object(recorder, "time", clock):
        one = Recorder(snapshot().server, Wanted(0.2, stacks=False), File(tmp_path / "x"))
        for _ in marks:
            one.tick()
            now.value += passed_s
        assert one.taken == taken
        one.close()
