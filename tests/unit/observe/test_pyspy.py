"""Stacks: taken without stopping anybody, and nothing that the target makes py-spy say does harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import kill_tree, wait_until
from support.snapshots import USERS_FILE, frames, holder, lock, snapshot, waiter
from support.targets import target

from semtrace.linux.process import read_stat
from semtrace.linux.source import SourceLines
from semtrace.linux.source import _began_at as source_began_at
from semtrace.model import (
    ProcessId,
    Target,
    ThreadId,
    Wait,
    Waiter,
    WaitGraph,
    WaitKind,
    Wakers,
    is_own,
    place_of,
)
from semtrace.observe import pyspy
from semtrace.present.places import place_text
from semtrace.reports.stacks import stack_lines, stack_report

PY_SPY = Path(sys.executable).with_name("py-spy")
needs_py_spy = pytest.mark.skipif(not PY_SPY.exists(), reason="py-spy is not installed")


def me() -> ProcessId:
    stat = read_stat(os.getpid())
    assert stat
    return stat.id


def printed(*threads: Any) -> pyspy.Run:
    return lambda pid: json.dumps(threads).encode()


def thread(frames: Any, tid: Any = None) -> dict[str, Any]:
    return {"thread_id": "x", "os_thread_id": os.getpid() if tid is None else tid, "frames": frames}


@needs_py_spy
def test_stack_of_a_waiter_is_its_threads_with_source_lines() -> None:
    with target() as t:
        t.fork("a")
        t.thread("a2", by="a")
        t.do("a", "lock.acquire()")
        t.block("a2", "lock")
        stat = read_stat(t.pids["a"])
        assert stat
        taken = pyspy.take([stat.id])
        assert not taken.problems
        stack = taken.of[(stat.id, t.tids["a2"])]
        own = [frame for frame in stack if frame.file.endswith("locks.py")]
        assert own[0].function == "block"
        assert own[0].source == "return lock.acquire(*arguments)"
        assert all(frame.function != "block" for frame in taken.of[(stat.id, t.tids["a"])])


@needs_py_spy
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_nobody_is_stopped_or_traced_or_sent_a_signal(tmp_path: Path) -> None:
    """Of all system calls that could do so py-spy makes none, and it opens nothing of the target for writing."""
    with target() as t:
        log = tmp_path / "log"
        watched = "trace=ptrace,kill,tkill,tgkill,rt_sigqueueinfo,pidfd_send_signal,process_vm_writev,write,openat"
        command = [str(PY_SPY), "dump", "--json", "--nonblocking", "--pid", str(t.root)]
        done = subprocess.run(["strace", "-f", "-o", str(log), "-e", watched, *command], capture_output=True)
        if done.returncode != 0 and b"ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        assert done.returncode == 0
        calls = [line.split(" ", 1)[1].strip() for line in log.read_text().splitlines()]
        assert not [
            call for call in calls if call.startswith(("ptrace(", "kill(", "tkill(", "tgkill(", "rt_sigq", "pidfd_"))
        ]
        assert not [call for call in calls if call.startswith("process_vm_writev(")]
        opened = [call for call in calls if call.startswith("openat(") and f"/proc/{t.root}/" in call]
        assert not [call for call in opened if "O_WRONLY" in call or "O_RDWR" in call]


def test_missing_py_spy_gives_no_stacks_but_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "_py_spy", lambda: None)
    taken = pyspy.take([me()])
    assert not taken.of
    assert [(p.process, p.error, p.remedy) for p in taken.problems] == [
        (None, "py-spy is not installed", "pip install py-spy")
    ]
    assert pyspy.take([]).problems == ()


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"null",
        b"[1, null, []]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps([{"frames": 7}, {"os_thread_id": "x"}, {"os_thread_id": 1 << 200, "frames": []}]).encode(),
        json.dumps([{"thread_id": 1 << 200, "frames": [{}]}, {"thread_id": -1, "frames": []}]).encode(),
    ],
)
def test_nonsense_gives_no_stacks_and_no_harm(output: bytes) -> None:
    assert not pyspy.take([me()], lambda pid: output).of


def test_odd_frames_are_made_plain() -> None:
    odd = [
        {"name": 7, "filename": None, "line": "x"},
        {"name": "f" * 10_000, "filename": "/etc/passwd", "line": 1},
        {"name": "g", "filename": "/dev/zero.py", "line": -5},
        "not a frame",
        *({"name": "deep", "filename": "x.py", "line": 1} for _ in range(5000)),
    ]
    (stack,) = pyspy.take([me()], printed(thread(odd))).of.values()
    assert len(stack) < 250
    assert (stack[0].function, stack[0].file, stack[0].line) == ("?", "?", 0)
    assert len(stack[1].function) == 300
    assert all(frame.source is None for frame in stack)


def test_processes_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(pid: int) -> bytes:
        asked.append(pid)
        return b"[]"

    many = [ProcessId(number, 1) for number in range(100_000, 100_100)]
    pyspy.take(many, run)
    assert len(asked) == pyspy.MOST_PROCESSES
    monkeypatch.setattr(pyspy, "_PATIENCE_S", -1.0)
    asked.clear()
    pyspy.take(many, run)
    assert not asked


def test_py_spy_that_hangs_floods_or_fails_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "py-spy"
    monkeypatch.setattr(pyspy, "_py_spy", lambda: lambda pid: pyspy._output(str(fake), pid))
    monkeypatch.setattr(pyspy, "_ONE_S", 0.3)
    monkeypatch.setattr(pyspy, "_MOST_BYTES", 1000)
    said = []
    for does in (
        "exec sleep 60",
        "exec cat /dev/zero",
        "head -c 5000 /dev/zero",
        "echo 'Error: no'; echo 'Reason: forbidden' >&2; exit 1",
    ):
        fake.write_text(f"#!/bin/sh\n{does}\n")
        fake.chmod(0o755)
        taken = pyspy.take([me()])
        assert not taken.of
        said += [problem.error for problem in taken.problems]
    much = "py-spy printed too much"
    assert said == ["py-spy took longer than 0.3 s", much, much, "py-spy: Reason: forbidden"]


def test_process_that_ran_during_the_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Bad address` is what py-spy says of a pointer that was let go between two of its reads."""
    fake, asked = tmp_path / "py-spy", tmp_path / "asked"
    monkeypatch.setattr(pyspy, "_py_spy", lambda: lambda pid: pyspy._output(str(fake), pid))
    answer = json.dumps([thread([{"name": "f", "filename": "a.py", "line": 1}])])

    def told(often: int, reason: str) -> tuple[int, tuple[str, ...], int]:
        asked.write_text("")
        failing = f'[ $(wc -l <{asked}) -gt {often} ] || {{ echo "Reason: {reason}" >&2; exit 1; }}'
        fake.write_text(f"#!/bin/sh\necho >>{asked}\n{failing}\necho '{answer}'\n")
        fake.chmod(0o755)
        taken = pyspy.take([me()])
        return len(taken.of), tuple(problem.error for problem in taken.problems), len(asked.read_text())

    assert told(3, "Bad address (os error 14)") == (1, (), 4)
    assert told(99, "Bad address (os error 14)") == (0, ("py-spy: Reason: Bad address (os error 14)",), 4)
    assert told(3, "Operation not permitted") == (0, ("py-spy: Reason: Operation not permitted",), 1)


def test_only_python_source_is_read(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("first = 1\n    second\x1b[2J()\n" + "x" * 500 + "\n")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo.py")
    lines = SourceLines(os.getpid(), time.time())
    assert lines.line(str(source), 1) == "first = 1"
    assert lines.line(str(source), 2) == "second?[2J()"
    assert len(lines.line(str(source), 3) or "") == 120
    for file, number in ((str(source), 0), (str(source), 99), (str(tmp_path), 1), ("", 1), ("a\0.py", 1)):
        assert lines.line(file, number) is None
    for name in ("secret", "link.py", "fifo.py", "missing.py"):
        assert lines.line(str(tmp_path / name), 1) is None


def test_file_changed_since_the_program_began_has_no_lines(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("first = 1\n")
    os.utime(source, (0, 0))
    assert SourceLines(os.getpid(), time.time() - 60).line(str(source), 1) is None
    assert SourceLines(os.getpid(), time.time()).line(str(source), 1) == "first = 1"


def test_a_forked_process_runs_the_files_that_its_parent_imported() -> None:
    code = "import os, time; os.fork() or print(os.getpid(), flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            child, parent = read_stat(int(popen.stdout.readline())), read_stat(popen.pid)
            assert child is not None
            assert parent is not None
            assert source_began_at(child.id.pid) == parent.started_at < child.started_at
        finally:
            kill_tree(popen.pid)


def test_a_process_that_ended_has_no_stack() -> None:
    popen = subprocess.Popen([sys.executable, "-c", ""])
    popen.wait()
    gone = ProcessId(popen.pid, 1)
    assert wait_until(lambda: not pyspy.take([gone], printed(thread([]))).of or None, what="nothing")


@needs_py_spy
def test_ended_process_is_no_problem_and_failures_have_a_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "full")
    assert pyspy.take([ProcessId(2**22 - 1, 1)]).problems == ()
    with subprocess.Popen(["sleep", "60"]) as popen:
        stat = read_stat(popen.pid)
        assert stat is not None
        (problem,) = pyspy.take([stat.id]).problems
        popen.kill()
    assert "main" not in problem.error, "the last line of a backtrace"
    assert problem.error.startswith("py-spy: ")


# -- what is shown of them


@pytest.mark.parametrize(("file", "own"), [
    ("/srv/app.py", True),
    ("app.py", True),
    ("/home/x/python-projects/app.py", True),
    ("/usr/lib/python3.12/threading.py", False),
    ("/root/.pyenv/versions/3.11.7/lib/python3.11/multiprocessing/synchronize.py", False),
    ("/srv/venv/lib/python3.12/site-packages/gunicorn/arbiter.py", False),
    ("/usr/lib/python3/dist-packages/x.py", False),
    ("/work/main/src/semtrace/instrument/tracer.py", False),
    ("<frozen importlib._bootstrap>", False),
    ("/srv/app/.venv/bin/gunicorn", False),
    ("bin/gunicorn", False),
    ("/srv/app/bin/serve.py", True),
    ("/srv/app/serve", True),
])  # fmt: skip
def test_whose_a_frame_is(file: str, own: bool) -> None:
    assert is_own(file) == own


def shown(each: Waiter) -> str:
    place = place_of(each)
    assert place is not None
    return place_text(place)


def test_the_users_own_frames_are_shown_and_the_others_counted() -> None:
    stack = frames(("/usr/lib/python3.12/x.py", "wait"), (USERS_FILE, "inner"), (USERS_FILE, "outer"))
    assert list(stack_lines(stack)) == [
        "/srv/app.py:7 in inner",
        "/srv/app.py:7 in outer",
        "(1 more frame of libraries)",
    ]
    assert list(stack_lines(stack[:1])) == ["/usr/lib/python3.12/x.py:7 in wait"]
    assert shown(waiter(12, stack=stack)) == "/srv/app.py:7 in inner (called by /srv/app.py:7 in outer)"
    assert shown(waiter(12, site="/srv/app.py:9")) == "/srv/app.py:9"
    assert place_of(waiter(12)) is None


def test_place_in_a_library_is_who_called_the_primitive() -> None:
    lib = "/usr/lib/python3.12"
    lock, queue = (f"{lib}/multiprocessing/synchronize.py", "__enter__"), (f"{lib}/multiprocessing/queues.py", "get")
    worker, run = (f"{lib}/multiprocessing/pool.py", "worker"), (f"{lib}/threading.py", "run")
    text = f"{queue[0]}:7 in get"
    assert shown(waiter(12, stack=frames(lock, queue, worker))) == f"{text} (called by {worker[0]}:7 in worker)"
    assert shown(waiter(12, stack=frames(lock, queue, run))) == text
    assert shown(waiter(12, stack=frames(run, run))) == f"{run[0]}:7 in run"
    assert shown(waiter(12, stack=frames(lock, queue, (USERS_FILE, "inner")))) == "/srv/app.py:7 in inner"


def test_report_has_threads_that_wait_for_no_shared_lock() -> None:
    stack = frames((USERS_FILE, "withdraw"))
    target = Target(WaitKind.PROCESS_END, "", process=ProcessId(77, 1))
    waits = (
        Wait(ThreadId(ProcessId(12, 1), 12), target, False, Wakers(), stack=stack),
        Wait(ThreadId(ProcessId(13, 1), 13), target, False, Wakers(), stack=stack, idle=True),
    )
    seen = replace(snapshot(), waits=WaitGraph(waits))
    assert list(stack_report(seen)) == ["PID 12 waits for the end of PID 77", "    /srv/app.py:7 in withdraw"]


def test_the_report_says_who_is_where() -> None:
    stack = frames((USERS_FILE, "withdraw"))
    told = list(stack_report(snapshot(lock(holders=(holder(11, stack=stack),), waiters=(waiter(12, stack=stack),)))))
    assert told == [
        "PID 11 holds app.lock",
        "    /srv/app.py:7 in withdraw",
        "PID 12 waits for app.lock",
        "    /srv/app.py:7 in withdraw",
    ]
