"""The parsers of `/proc/locks`, cgroups and the answers of NETLINK_SOCK_DIAG: real lines, and hostile ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux import filelocks, stopped
from semtrace.linux.filelocks import FileLock, parse_file_locks, read_file_locks
from semtrace.linux.sockdiag import UnixSocket, parse_answer, parse_dump
from semtrace.linux.stopped import frozen, parse_cgroups, parse_mounts
from semtrace.model import FileLockType, SemId

LOCKS = b"""1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF
2: FLOCK  ADVISORY  WRITE 3517 fd:00:2531448 0 EOF
2: -> FLOCK  ADVISORY  WRITE 3518 fd:00:2531448 0 EOF
2:  -> FLOCK  ADVISORY  READ 3519 fd:00:2531448 0 EOF
3: LEASE  ACTIVE    READ  1 00:1b:5 0 EOF
3: -> LEASE  BREAKER   WRITE  2 00:1b:5 0 EOF
4: OFDLCK ADVISORY  READ -1 fd:00:2531452 128 135
5: POSIX  ADVISORY  READ 3548 <none>:0 1073741826 1073742335
6: ACCESS ADVISORY  READ 3548 00:1b:6 0 EOF
7: FLOCK  ADVISORY  WRITE 0 00:1b:7 0 EOF
"""


def test_locks_are_parsed_with_their_waiters() -> None:
    file = SemId(0xFD, 0, 2531448)
    assert list(parse_file_locks(LOCKS)) == [
        FileLock(FileLockType.POSIX, True, 3568, SemId(0xFD, 0, 2531452)),
        FileLock(
            FileLockType.FLOCK,
            True,
            3517,
            file,
            waiters=(FileLock(FileLockType.FLOCK, True, 3518, file), FileLock(FileLockType.FLOCK, False, 3519, file)),
        ),
        FileLock(FileLockType.OFD, False, None, SemId(0xFD, 0, 2531452), 128, 135),
        FileLock(FileLockType.FLOCK, True, None, SemId(0, 0x1B, 7)),
    ]


@given(st.one_of(st.binary(), st.integers(0, len(LOCKS)).map(lambda end: LOCKS[:end])))
def test_no_bytes_make_the_parser_of_locks_raise(raw: bytes) -> None:
    list(parse_file_locks(raw))


def test_too_many_locks_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelocks, "_MOST_BYTES", len(LOCKS))
    monkeypatch.setattr(filelocks, "read", lambda path, limit: LOCKS)
    assert read_file_locks() is None
    monkeypatch.setattr(filelocks, "read", lambda path, limit: None)
    assert read_file_locks() is None


def answer(peer: int | None, state: int = 1, type_: int = 1, number: int = 5, inode: int = 77, kind: int = 20) -> bytes:
    attributes = struct.pack("=HHI", 8, 6, 1) + struct.pack("=HHBxxx", 5, 7, 0)
    attributes += b"" if peer is None else struct.pack("=HHI", 8, 2, peer)
    body = struct.pack("=BBBxIII", 1, type_, state, inode, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, number, 0) + body


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (answer(78), UnixSocket(77, True, False, 78)),
        (answer(0), UnixSocket(77, True, False, 0)),
        (answer(None), UnixSocket(77, True, False, None)),
        (answer(None, state=10), UnixSocket(77, True, True, None)),
        (answer(78, type_=2), UnixSocket(77, False, False, 78)),
        (answer(78, type_=5), UnixSocket(77, True, False, 78)),
        (answer(78, number=6), None),
        (answer(78, inode=70), None),
        (answer(78, kind=2), None),
        (answer(78)[:-1], None),
        (b"", None),
    ],
)
def test_the_answer_about_a_unix_socket_is_parsed(raw: bytes, expected: UnixSocket | None) -> None:
    assert parse_answer(raw, 5, 77) == expected


@given(st.one_of(st.binary(), st.binary(max_size=40).map(lambda tail: _grown(answer(None), tail))))
def test_no_answer_makes_its_parser_raise(raw: bytes) -> None:
    parse_answer(raw, 5, 77)


def _grown(raw: bytes, tail: bytes) -> bytes:
    return struct.pack("=I", len(raw) + len(tail)) + raw[4:] + tail


def listening(inode: int, number: int = 2, kind: int = 20) -> bytes:
    body = bytes(68) + struct.pack("=I", inode)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, number, 0) + body


def test_a_dump_of_listening_sockets_ends_with_its_mark() -> None:
    done = struct.pack("=IHHIII", 20, 3, 2, 2, 0, 0)
    assert parse_dump(listening(5) + listening(6), 2) == ([5, 6], False)
    assert parse_dump(listening(5) + done, 2) == ([5], True)
    assert parse_dump(listening(5, number=7), 2) == ([], True)
    assert parse_dump(listening(5, kind=2), 2) == ([], True)


@given(st.one_of(st.binary(), st.binary().map(lambda tail: listening(5) + tail)))
def test_no_dump_makes_its_parser_raise(raw: bytes) -> None:
    parse_dump(raw, 2)


CGROUPS = b"6:freezer:/box\n4:cpu,cpuacct:/\n1:name=systemd:/user.slice\n0::/system.slice/a\\x2d.service\n"
MOUNTS = b"""31 24 0:27 / /sys/fs/cgroup/freezer rw,nosuid shared:7 - cgroup cgroup rw,freezer
32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 /system.slice /sys/fs/with\\040blank rw - cgroup2 cgroup2 rw,nsdelegate
garbage
"""


def test_only_the_hierarchies_that_freeze_are_taken() -> None:
    assert parse_cgroups(CGROUPS) == {"freezer": "/box", "": "/system.slice/a\\x2d.service"}
    assert parse_mounts(MOUNTS) == {
        "freezer": ("/", "/sys/fs/cgroup/freezer"),
        "": ("/system.slice", "/sys/fs/with blank"),
    }


@given(st.binary())
def test_no_bytes_make_the_parsers_of_cgroups_raise(raw: bytes) -> None:
    parse_cgroups(raw)
    parse_mounts(raw)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"v2": b"populated 1\nfrozen 0\n", "v1": b"THAWED\n"}, False),
        ({"v2": b"populated 1\nfrozen 1\n", "v1": b"THAWED\n"}, True),
        ({"v2": b"populated 1\nfrozen 0\n", "v1": b"FREEZING\n"}, True),
        ({"v2": b"populated 1\nfrozen 0\n"}, None),
        ({"v2": b"frozen 1\n"}, True),
        ({}, None),
    ],
)
def test_one_frozen_hierarchy_is_enough(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], expected: bool | None
) -> None:
    places = {
        "/proc/5/cgroup": CGROUPS,
        "/sys/fs/with blank/a\\x2d.service/cgroup.events": files.get("v2"),
        "/sys/fs/cgroup/freezer/box/freezer.state": files.get("v1"),
    }
    monkeypatch.setattr(stopped, "read", lambda path, limit=0: places[path])
    monkeypatch.setattr(stopped, "_mounts", lambda: parse_mounts(MOUNTS))
    assert frozen(5) is expected


@pytest.mark.parametrize("group", ["/elsewhere", "/../../outside", "/system.slicer"])
def test_a_cgroup_outside_of_what_is_mounted_is_unknown(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    monkeypatch.setattr(stopped, "read", lambda path, limit=0: f"0::{group}\n".encode())
    monkeypatch.setattr(stopped, "_mounts", lambda: parse_mounts(MOUNTS))
    assert frozen(5) is None
