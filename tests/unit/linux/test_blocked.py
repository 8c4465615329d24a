"""What becomes of a line of `/proc/PID/task/TID/syscall`, and of hostile memory behind it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux import blocked, syscalls
from semtrace.linux.blocked import ANY_CHILD, Awaited, Blocked, Call, read_blocked
from semtrace.linux.memory import Memory
from semtrace.linux.syscalls import NO_SYSCALL, SystemCall, numbers_of, parse_call

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86-64")
END = " 0x7ffe2ad1c3c0 0x7f1d4c2a3f16\n"


def line(number: int, *arguments: int) -> bytes:
    filled = (*arguments, *([0] * (6 - len(arguments))))
    return f"{number} {' '.join(map(hex, filled))}{END}".encode()


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
        ("riscv64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header} here")
    text = Path(header).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)\b", text)}
    ours = {name: number for number, name in numbers_of(machine).items() if name in known}
    assert ours == {name: known[name] for name in ours}
    assert len(ours) > 25


def test_an_unknown_processor_has_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numbers_of("alpha") == {}
    monkeypatch.setattr(blocked, "NAMES", {})
    monkeypatch.setattr(blocked, "read_line", lambda *_: line(0, 3))
    assert read_blocked(1, 1, None) == Blocked(Call.OTHER, stack=0x7FFE2AD1C3C0, number=0)


def test_the_forms_of_the_line() -> None:
    assert parse_call(b"running\n") == SystemCall(None)
    assert parse_call(b"-1 0x7ffe 0x7f1d\n") == SystemCall(NO_SYSCALL, (), 0x7FFE)
    assert parse_call(b"-1 0x0 0x0\n") is None, "the thread has ended"
    assert parse_call(line(61, 0xFFFFFFFF)) == SystemCall(61, (0xFFFFFFFF, 0, 0, 0, 0, 0), 0x7FFE2AD1C3C0)


@given(st.one_of(st.binary(max_size=120), st.from_regex(rb"-?[0-9]{1,3}( 0x[0-9a-f]{1,16}){0,9}\n", fullmatch=True)))
def test_no_line_makes_the_parser_raise(raw: bytes) -> None:
    found = parse_call(raw)
    assert found is None or len(found.arguments) in (0, 6)


class Fake:
    """Memory at any address, as long as it lasts."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, address: int, size: int) -> bytes | None:
        return self.data[:size] if size <= len(self.data) else None


def decoded(monkeypatch: pytest.MonkeyPatch, raw: bytes, data: bytes = b"", wchan: bytes = b"") -> Blocked | None:
    monkeypatch.setattr(blocked, "read_line", lambda *_: raw)
    monkeypatch.setattr(blocked, "read", lambda path, limit=0: wchan if path.endswith("wchan") else None)
    return read_blocked(1 << 23, 1 << 23, Fake(data))  # type: ignore[arg-type]


@x86_64
@given(number=st.integers(0, 460), arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6), data=st.binary())
def test_hostile_arguments_and_memory_do_no_harm(number: int, arguments: list[int], data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = decoded(patch, line(number, *arguments), data)
    assert found is not None
    assert len(found.fds) <= blocked.MOST_DESCRIPTORS


@x86_64
@pytest.mark.parametrize("many", [1 << 31, (1 << 32) - 1, 1 << 20])
def test_a_hostile_number_of_descriptors_is_bounded(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    found = decoded(monkeypatch, line(7, 0x1000, many, 0xFFFFFFFF), bytes(1 << 16))
    assert found is not None
    assert (found.call, found.complete, len(found.fds)) == (Call.POLL, False, blocked.MOST_DESCRIPTORS)


@x86_64
def test_select_reads_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = decoded(monkeypatch, line(23, 70, 0x1000, 0, 0x3000, 0), (1 << 69 | 1 << 3).to_bytes(16, "little"))
    assert found is not None
    assert found.fds == (Awaited(3, readable=True), Awaited(69, readable=True))
    found = decoded(monkeypatch, line(23, 70, 0, 0x2000, 0, 0), (1 << 64).to_bytes(16, "little"))
    assert found is not None
    assert (found.fds, found.timed) == ((Awaited(64, writable=True),), False)


@x86_64
@pytest.mark.parametrize(
    ("wchan", "call"),
    [
        (b"poll_schedule_timeout.constprop.0", Call.POLL),
        (b"hrtimer_nanosleep", Call.SLEEP),
        (b"do_syscall_64", Call.SLEEP),
        (b"futex_wait_queue_me", Call.FUTEX),
        (b"do_signal_stop", Call.OTHER),
        (b"0", Call.OTHER),
        (b"", Call.OTHER),
    ],
)
def test_a_restarted_call_is_recognised_by_where_it_sleeps(
    monkeypatch: pytest.MonkeyPatch, wchan: bytes, call: Call
) -> None:
    """The second argument fits poll (9 descriptors) and futex (FUTEX_WAIT_BITSET)."""
    found = decoded(monkeypatch, line(219, 0x1000, 9, 1000, 0x2000), wchan=wchan)
    assert found is not None
    assert found.call is call


@x86_64
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (line(202, 0x1000, 0x81), Blocked(Call.RUNNING)),
        (line(202, 0x1000, 6), Blocked(Call.FUTEX, futex=0x1000)),
        (line(455, 0x1000, 0, 0, 0, 1), Blocked(Call.FUTEX, True, futex=0x1000)),
        (line(449, 0x1000, 2), Blocked(Call.FUTEX, complete=False)),
        (line(72, 3, 7), Blocked(Call.FCNTL_LOCK, fds=(Awaited(3),))),
        (line(72, 3, 6), Blocked(Call.OTHER)),
        (line(61, 0xFFFFFFFF), Blocked(Call.WAIT, child=ANY_CHILD)),
        (line(61, 0), Blocked(Call.WAIT, child=ANY_CHILD)),
        (line(61, 0xFFFFF000), Blocked(Call.WAIT, child=ANY_CHILD)),
        (line(247, 0), Blocked(Call.WAIT, child=ANY_CHILD)),
        (line(232, 4, 0x1000, 64, 0xFFFFFFFF), Blocked(Call.EPOLL, complete=False)),
        (line(441, 4, 0x1000, 64, 0x2000), Blocked(Call.EPOLL, True, complete=False)),
        (line(299, 4, 0x1000, 1, 0, 0x2000), Blocked(Call.RECEIVE, True, fds=(Awaited(4, readable=True),))),
        (b"running\n", Blocked(Call.RUNNING)),
    ],
)
def test_what_real_programs_seldom_do_is_decoded(
    monkeypatch: pytest.MonkeyPatch, raw: bytes, expected: Blocked
) -> None:
    found = decoded(monkeypatch, raw)
    assert found is not None
    assert Blocked(found.call, found.timed, found.futex, found.fds, found.complete, found.child) == expected


@x86_64
def test_a_thread_that_moves_on_meanwhile_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter([line(0, 3), line(0, 4), line(0, 4)])
    monkeypatch.setattr(blocked, "read_line", lambda *_: next(lines))
    found = read_blocked(1, 1, None)
    assert found is not None
    assert found.fds == (Awaited(4, readable=True),)
    numbers = iter(range(10))
    monkeypatch.setattr(blocked, "read_line", lambda *_: line(0, next(numbers)))
    assert read_blocked(1, 1, None) == Blocked(Call.RUNNING)


@x86_64
@pytest.mark.parametrize("call", [61, 247])
def test_a_child_in_a_container_has_its_number_here(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    inner = {100: (100, 1), 101: (101, 7), 102: (102, 8)}
    monkeypatch.setattr(blocked, "namespace_pids", inner.__getitem__)
    monkeypatch.setattr(blocked, "children", lambda _: [101, 102])
    monkeypatch.setattr(blocked, "read_stat", lambda pid: pid)
    raw = line(61, 8) if call == 61 else line(247, 1, 8)
    monkeypatch.setattr(blocked, "read_line", lambda *_: raw)
    found = read_blocked(100, 100, None)
    assert found is not None
    assert found.child == 102
    monkeypatch.setattr(blocked, "children", lambda _: [101])
    found = read_blocked(100, 100, None)
    assert found is not None
    assert (found.call, found.child) == (Call.WAIT, None)


def test_a_thread_that_may_not_be_read_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "no", path)

    monkeypatch.setattr(syscalls.os, "open", refuse)
    with pytest.raises(PermissionError):
        read_blocked(os.getpid(), os.getpid(), None)


def test_a_process_that_does_not_exist_is_not_blocked() -> None:
    with Memory.own() as memory:
        assert read_blocked(1 << 23, 1 << 23, memory) is None


@x86_64
def test_a_watched_file_whose_number_is_anothers_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "4": b"pos:\t0\ntfd:        5 events:       19 data:  5  pos:0 ino:1f sdev:5\n"
        b"tfd:        6 events:        4 data:  6  pos:0 ino:20 sdev:5\n"
        b"tfd:        7 events:        4 data:  7  pos:0 ino:20 sdev:5\n",
        "5": b"pos:\t0\nino:\t31\n",
        "6": b"pos:\t0\nino:\t99\n",
    }
    monkeypatch.setattr(blocked, "read_line", lambda *_: line(232, 4, 0x1000, 64, 0xFFFFFFFF))
    monkeypatch.setattr(blocked, "read", lambda path, limit: files.get(path.rpartition("/")[2]))
    found = read_blocked(1, 1, None)
    assert found is not None
    assert (found.fds, found.complete) == ((Awaited(5, readable=True),), False)
