"""The lines of /proc that discovery reads, and which process a heartbeat file belongs to."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux.descriptors import OpenFile, parse_tcp, parse_unix
from semtrace.linux.process import Stat
from semtrace.linux.program import is_spawned, namespace_pids, parse_status, read_status
from semtrace.model import ProcessId
from semtrace.servers.heartbeat import owners

TCP = b"""  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: zz:zz 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1
"""
TCP6 = b"""  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 4714 1
"""
UNIX = b"""Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 51 /run/a b.sock
0000000000000000: 00000002 00000000 00010000 0001 01 52 @abstract
0000000000000000: 00000003 00000000 00000000 0001 03 53 /run/connected
0000000000000000: 00000002 00000000 00000000 0002 01 54 /run/datagrams
0000000000000000: 00000002 00000000 00010000 0001 01 55
"""


def test_listening_sockets():
    assert list(parse_tcp(TCP)) == [(b"4711", "127.0.0.1:8080")]
    assert list(parse_tcp(TCP6)) == [(b"4714", "[::1]:8081")]
    assert list(parse_unix(UNIX)) == [(b"51", "unix:/run/a b.sock"), (b"52", "unix:@abstract")]


@given(st.binary(max_size=300))
def test_no_line_of_proc_breaks_the_parsers(raw):
    parse_status(raw)
    list(parse_tcp(b"header\n" + raw))
    list(parse_unix(b"header\n" + raw))


def test_the_signals_that_a_process_handles():
    previous = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        status = read_status(os.getpid())
        assert status is not None
        assert status.tgid == os.getpid()
        assert status.catches(signal.SIGUSR2, signal.SIGINT)
        assert not status.catches(signal.SIGUSR2, signal.SIGTTOU)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert namespace_pids(os.getpid())[0] == os.getpid()


@pytest.mark.parametrize(
    ("command", "spawned"),
    [
        ("from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)", True),
        ("from multiprocessing.forkserver import main; main(3, 4, ['__main__'])", True),
        ("from billiard.spawn import spawn_main", True),
        ("from multiprocessing.resource_tracker import main;main(4)", False),
        ("print()", False),
    ],
)
def test_multiprocessing_s_own_children(command, spawned):
    assert is_spawned(("python", "-c", command, "--multiprocessing-fork")) is spawned
    assert is_spawned(("python", "-c", *command.split(" "), "--multiprocessing-fork")) is spawned  # by setproctitle


def process(pid: int, start: int) -> Stat:
    return Stat(ProcessId(pid, start), "python", "sleeping", 1, 0x40, 0, 1, 0, 0)


def files(pid: int, *inodes: int) -> list[OpenFile]:
    return [OpenFile(f"/proc/{pid}/fd/{inode}", (1, inode)) for inode in inodes]


def test_a_worker_s_only_file_is_its_own():
    a, b = process(10, 1), process(11, 1)
    found = owners([b, a], {a.id: files(10, 7), b.id: files(11, 8)})
    assert {p.pid: f.inode[1] for p, f in found.items()} == {10: 7, 11: 8}


def test_a_dirty_worker_inherits_its_older_siblings_files():
    a, b, c = process(10, 1), process(12, 2), process(11, 3)
    found = owners([c, b, a], {a.id: files(10, 7), b.id: files(12, 7, 8), c.id: files(11, 9, 8, 7)})
    assert {p.pid: f.inode[1] for p, f in found.items()} == {10: 7, 12: 8, 11: 9}


def test_what_cannot_be_told_apart_is_left_out():
    a = process(10, 1)
    assert owners([a], {a.id: files(10, 7, 8)}) == {}
    assert owners([a], {}) == {}
