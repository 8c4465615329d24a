"""`/proc/PID/stat`: names that try to look like the fields after them, lines cut short, and processes that go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wait_until

from semtrace.linux.process import (
    PAGE_SIZE,
    children,
    last_pid,
    parse_stat,
    read_stat,
    still,
    thread_ids,
)
from semtrace.model import ProcessId

FIELDS = (
    "S 12 1 1 0 -1 4194368 222 0 0 0 70 5 0 0 20 0 3 0 987654 13500416 2500 18446744073709551615 1 1 0 0 0 0 0 0 65536"
)


def _line(comm: str, fields: str = FIELDS) -> bytes:
    return f"4711 ({comm}) {fields}\n".encode()


@pytest.mark.parametrize("comm", ["python3", "a) R (b", ")", "(", ") S 1 2 3", "", " ", "a b", "(sd-pam)", "x\ny", "é"])
def test_the_last_parenthesis_ends_the_name_whatever_it_holds(comm: str) -> None:
    stat = parse_stat(4711, _line(comm))
    assert stat is not None
    assert stat.id == ProcessId(4711, 987654)
    assert (stat.comm, stat.state, stat.ppid, stat.threads) == (comm, "sleeping", 12, 3)
    assert (stat.cpu_ticks, stat.vsize, stat.rss) == (75, 13500416, 2500 * PAGE_SIZE)
    assert stat.forked


def test_name_that_is_not_utf8_gets_replacement_characters() -> None:
    stat = parse_stat(1, b"1 (\xff\xfe) " + FIELDS.encode())
    assert stat is not None
    assert stat.comm == "\ufffd\ufffd"


@pytest.mark.parametrize("letter", [*"RSDTtXZPI", "?", "é"])
def test_every_state_has_a_word(letter: str) -> None:
    alone = FIELDS[1:].replace(" 20 0 3 0 ", " 20 0 1 0 ")
    stat = parse_stat(1, _line("x", letter + alone))
    assert stat is not None
    assert stat.state
    assert stat.threads == 1
    assert stat.ended == (letter in "XZ")


def test_a_zombie_whose_other_threads_run_on_has_not_ended() -> None:
    stat = parse_stat(1, _line("x", "Z" + FIELDS[1:]))
    assert stat is not None
    assert not stat.ended


def test_a_line_cut_anywhere_before_the_last_field_is_none() -> None:
    whole = _line("a) R (b")
    last = whole.index(b"2500")
    assert all(parse_stat(4711, whole[:cut]) is None for cut in range(last + 1))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    parse_stat(1, raw)
    parse_stat(1, b"1 (x) " + raw)


def test_this_process_is_seen_as_it_is() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    assert stat.ppid == os.getppid()
    assert still(stat.id)
    assert not still(ProcessId(stat.id.pid, stat.id.start_ticks + 1))
    assert threading.get_native_id() in thread_ids(os.getpid())


def test_a_child_comes_and_goes() -> None:
    before = last_pid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        own, its = read_stat(os.getpid()), read_stat(process.pid)
        assert own is not None
        assert its is not None
        assert process.pid in children(own)
        assert last_pid() != before
        process.kill()
        wait_until(lambda: (s := read_stat(process.pid)) and s.ended)
        assert not still(its.id)
    assert read_stat(process.pid) is None
    assert thread_ids(process.pid) == []
    assert children(its) == []
