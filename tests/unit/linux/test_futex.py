"""`/proc/PID/task/TID/syscall`: who sleeps in futex, and who only passes through it."""

from __future__ import annotations

import os
import platform
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wait_until

from semtrace.linux import futex
from semtrace.linux.futex import NO_SYSCALL, Thread, parse_syscall, read_thread, run_time, run_time_ns, threads

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86-64")
REST = b"0x0 0x0 0x0 0xffffffff 0x7ffe2ad1c3c0 0x7f1d4c2a3f16\n"


@x86_64
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("FUTEX_WAIT", b"0x0"),
        ("FUTEX_WAIT_PRIVATE", b"0x80"),
        ("FUTEX_WAIT_BITSET", b"0x9"),
        ("FUTEX_WAIT_BITSET_PRIVATE", b"0x89"),
        ("FUTEX_WAIT_BITSET | CLOCK_REALTIME, as sem_wait", b"0x109"),
        ("FUTEX_WAIT_BITSET_PRIVATE | CLOCK_REALTIME", b"0x189"),
    ],
)
def test_a_thread_that_sleeps_in_futex_has_its_address(name: str, operation: bytes) -> None:
    assert parse_syscall(7, b"202 0x7f1d4c9b1000 " + operation + b" " + REST) == Thread(7, 202, 0x7F1D4C9B1000)


@x86_64
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("FUTEX_WAKE", b"0x1"),
        ("FUTEX_WAKE_PRIVATE", b"0x81"),
        ("FUTEX_REQUEUE", b"0x3"),
        ("FUTEX_CMP_REQUEUE", b"0x4"),
        ("FUTEX_WAKE_OP", b"0x5"),
        ("FUTEX_UNLOCK_PI", b"0x7"),
        ("FUTEX_WAKE_BITSET", b"0xa"),
    ],
)
def test_a_thread_that_wakes_others_is_no_waiter(name: str, operation: bytes) -> None:
    assert parse_syscall(7, b"202 0x7f1d4c9b1000 " + operation + b" " + REST) == Thread(7, 202, None)


@x86_64
def test_a_timed_wait_that_a_stop_interrupted_still_waits() -> None:
    """After SIGSTOP and SIGCONT the kernel shows restart_syscall (219) and the arguments as they were."""
    found = parse_syscall(7, b"219 0x7f1d4c9b1000 0x109 " + REST)
    assert found is not None
    assert found.futex == 0x7F1D4C9B1000


def test_the_three_other_forms_of_the_line() -> None:
    assert parse_syscall(7, b"running\n") == Thread(7, None)
    assert parse_syscall(7, b"-1 0x7ffe2ad1c3c0 0x7f1d4c2a3f16\n") == Thread(7, NO_SYSCALL)
    assert parse_syscall(7, b"0 0x3 0x7f1d 0x400 0x0 0x0 0x0 0x7ffe 0x7f1d\n") == Thread(7, 0)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"x", b"0x10 0x3", b"202", b"202 0x1", b"202 zz 0x80", b"202 0x1 zz", b"\xff\x00"]
)
def test_garbage_is_none_or_no_waiter_and_never_raises(line: bytes) -> None:
    found = parse_syscall(7, line)
    assert found is None or found.futex is None


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda b: b"202 0x7f00 " + b)))
def test_no_bytes_make_the_parser_raise(line: bytes) -> None:
    parse_syscall(1, line)


def test_a_thread_of_this_process_is_seen_asleep_and_gone() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    tid = thread.native_id
    assert tid is not None
    pid = os.getpid()
    seen = wait_until(lambda: (t := read_thread(pid, tid)) and t.futex and t)
    assert seen.tid == tid
    assert {t.tid for t in threads(pid) or []} >= {tid, threading.get_native_id()}
    stop.set()
    thread.join()
    wait_until(lambda: read_thread(pid, tid) is None)
    assert run_time_ns(pid, tid) is None


def test_a_process_that_does_not_exist_has_no_threads() -> None:
    assert threads(2**22 + 1) is None
    assert threads(2**22 + 1, single=True) is None
    assert read_thread(2**22 + 1, 2**22 + 1) is None


def test_run_time_grows_while_a_thread_computes() -> None:
    before = run_time_ns(os.getpid(), threading.get_native_id())
    if before is None:
        pytest.skip("this kernel has no schedstat")
    total = 0
    wait_until(lambda: sum(range(20000)) and (run_time_ns(os.getpid(), threading.get_native_id()) or 0) > before + 1000)
    assert total == 0


@x86_64
@pytest.mark.parametrize(
    ("line", "blocked"),
    [
        (b"running\n", False),
        (b"-1 0x7ffe2ad1c3c0 0x7f1d4c2a3f16\n", False),
        (b"202 0x7f1d4c9b1000 0x81 " + REST, False),
        (b"202 0x7f1d4c9b1000 0x80 " + REST, True),
        (b"0 0x3 0x7f1d4c9b1000 " + REST, True),
    ],
)
def test_in_futex_only_a_wait_blocks(line: bytes, blocked: bool) -> None:
    thread = parse_syscall(7, line)
    assert thread is not None
    assert thread.blocked is blocked


@x86_64
def test_a_thread_that_sleeps_in_futex_has_its_stack_pointer() -> None:
    thread = parse_syscall(7, b"202 0x7f1d4c9b1000 0x80 " + REST)
    assert thread is not None
    assert thread.stack == 0x7FFE2AD1C3C0


def test_run_time_grows_and_is_unknown_for_a_missing_thread() -> None:
    pid, tid = os.getpid(), threading.get_native_id()
    before = run_time(pid, tid)
    if before is None:
        pytest.skip("this kernel does not tell")

    def grown() -> bool:
        after = run_time(pid, tid)
        assert after is not None
        return after.ns > before.ns and after.slices > before.slices

    wait_until(grown)
    assert run_time(pid, 1 << 22) is None


def test_zeros_from_a_kernel_that_does_not_count_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futex, "read_whole", lambda path, limit: b"0 0 0\n")
    assert run_time(os.getpid(), os.getpid()) is None
    assert run_time_ns(os.getpid(), os.getpid()) is None
