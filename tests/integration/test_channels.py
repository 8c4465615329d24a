"""The other end of a pipe or socket: real descriptors in real processes."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

from semtrace.linux import channels
from semtrace.linux.channels import Channel, ChannelId, ChannelKind, Ends, channel, ends_among, find_ends
from semtrace.linux.process import Stat, read_stat, thread_ids


def own(fd: int) -> Channel:
    found = channel(os.getpid(), fd)
    assert found is not None
    return found


def own_stat() -> Stat:
    found = read_stat(os.getpid())
    assert found is not None
    return found


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


@contextlib.contextmanager
def keeper(*fds: int, command: tuple[str, ...] = ("sleep", "1000")) -> Iterator[int]:
    """A process that has these descriptors."""
    with subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as popen:
        try:
            yield popen.pid
        finally:
            popen.kill()


def ends_of(asked: Channel) -> Ends:
    assert asked.other_end is not None
    return find_ends([asked.other_end], own_stat()).ends[asked.other_end]


def test_the_writers_of_a_pipe_are_found_until_they_end() -> None:
    with pipe() as (r, w):
        asked = own(r)
        assert (asked.kind, asked.reads, asked.writes) == (ChannelKind.PIPE, True, False)
        assert (own(w).id, own(w).reads, own(w).writes) == (asked.id, False, True)
        assert asked.id is not None
        with keeper(w) as writer, keeper(r) as reader:
            assert ends_of(asked) == Ends(frozenset({os.getpid(), reader}), frozenset({os.getpid(), writer}))
            os.close(w)
            assert ends_of(asked).writers == {writer}
            assert ends_among([asked.id], [writer, reader])[0][asked.id] == Ends(
                frozenset({reader}), frozenset({writer})
            )
        assert ends_of(asked) == Ends(frozenset({os.getpid()}), frozenset())


def test_fifo_is_identified_by_its_inode_and_not_its_path(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    os.mkfifo(first)
    os.link(first, second)
    fd = os.open(first, os.O_RDWR)
    other = os.open(second, os.O_WRONLY)
    try:
        asked = own(fd)
        assert (asked.kind, asked.reads, asked.writes, asked.path) == (ChannelKind.PIPE, True, True, str(first))
        with keeper(other) as writer:
            assert ends_of(asked) == Ends(frozenset({os.getpid()}), frozenset({os.getpid(), writer}))
    finally:
        os.close(fd)
        os.close(other)


def test_process_at_the_other_end_of_socketpair_is_found() -> None:
    mine, theirs = socket.socketpair()
    with mine, keeper(theirs.fileno()) as peer:
        theirs.close()
        asked = own(mine.fileno())
        assert (asked.kind, asked.unaccepted) == (ChannelKind.UNIX_SOCKET, False)
        assert ends_of(asked) == Ends(frozenset({peer}), frozenset({peer}))
    with mine:
        pass


def test_a_socket_without_an_other_end_is_unaccepted() -> None:
    mine, theirs = socket.socketpair()
    with mine:
        theirs.close()
        asked = own(mine.fileno())
        assert (asked.kind, asked.peer, asked.unaccepted) == (ChannelKind.UNIX_SOCKET, None, True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")
        listener.listen()
        assert own(listener.fileno()).kind is ChannelKind.LISTENING
        client.connect(listener.getsockname())
        assert own(client.fileno()).unaccepted
        accepted, _ = listener.accept()
        with accepted:
            assert own(client.fileno()).peer == own(accepted.fileno()).id


def test_sockets_of_a_network_have_no_known_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert own(server.fileno()).kind is ChannelKind.LISTENING
        assert (own(client.fileno()).kind, own(client.fileno()).other_end) == (ChannelKind.SOCKET, None)
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert own(server.fileno()).kind is ChannelKind.LISTENING  # a machine without IPv6 has no such address
    first, second = socket.socketpair(type=socket.SOCK_DGRAM)
    with first, second:
        assert own(first.fileno()).other_end is None, "others may send to it, too"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace")
def test_a_socket_of_another_network_namespace_is_unknown() -> None:
    code = "import socket, time; a, b = socket.socketpair(); print(a.fileno(), flush=True); time.sleep(1000)"
    argv = ["unshare", "--net", sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as popen:
        try:
            assert popen.stdout
            found = channel(popen.pid, int(popen.stdout.readline()))
        finally:
            popen.kill()
    assert found is not None
    assert (found.kind, found.peer, found.unaccepted) == (ChannelKind.SOCKET, None, False)


def test_the_processes_with_the_same_eventfd_are_found() -> None:
    eventfd = getattr(os, "eventfd")  # noqa: B009 - for mypy: it is newer than the oldest Python of ours
    mine, another = eventfd(0), eventfd(0)
    try:
        with keeper(mine) as sharer, keeper(another):
            asked = own(mine)
            assert asked.kind is ChannelKind.EVENTFD
            assert ends_of(asked).writers == {os.getpid(), sharer}
    finally:
        os.close(mine)
        os.close(another)


def test_a_pidfd_names_its_process_until_it_is_reaped() -> None:
    with keeper() as pid:
        fd = os.pidfd_open(pid)
        assert own(fd) == Channel(ChannelKind.PIDFD, pid=pid)
    try:
        assert own(fd) == Channel(ChannelKind.PIDFD, pid=None)
    finally:
        os.close(fd)


def test_files_have_path_and_inode_and_everything_else_is_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    info = path.stat()
    number = ChannelId(ChannelKind.FILE, (os.major(info.st_dev), os.minor(info.st_dev)), info.st_ino)
    with path.open("rb") as file, open("/dev/null", "rb") as null, select.epoll() as epoll:
        assert own(file.fileno()) == Channel(ChannelKind.FILE, number, True, False, path=str(path))
        assert own(null.fileno()).kind is own(epoll.fileno()).kind is ChannelKind.OTHER
    assert channel(os.getpid(), 1 << 20) is None
    assert channel(1 << 22, 0) is None


def test_a_process_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descendant of the server may have any of its pipes, another process only what it was given."""
    asked = channels._Asking.question

    with pipe() as (r, w), keeper() as child:

        def refuse(self: channels._Asking, stat: Stat) -> object:
            if stat.id.pid in (child, os.getppid()):
                raise PermissionError(13, "no")
            return asked(self, stat)

        monkeypatch.setattr(channels._Asking, "question", refuse)
        number = own(r).id
        assert number is not None
        found = find_ends([number], own_stat())
        assert found.ends[number].writers == {os.getpid()}
        assert found.hidden_kin == (child,)
        assert os.getppid() in found.hidden_others
        assert child in find_ends([number], None).hidden_kin
        ends, hidden = ends_among([number], [os.getpid(), child, 1 << 22])
        assert (ends[number].readers, hidden) == ({os.getpid()}, (child,))
        assert w


def test_asking_makes_nobody_a_reader_of_the_pipe() -> None:
    """While semtrace had a pipe open, a writer would not see that its last reader is gone."""
    with pipe() as (r, w):
        number = own(w).id
        assert number is not None
        os.close(r)
        failed = []
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                try:
                    os.write(w, b"x")
                except BrokenPipeError:
                    continue
                failed.append(True)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(1000):
                own(w)
            find_ends([number], own_stat())
        finally:
            stop.set()
            thread.join()
        assert not failed


def test_sweep_finds_descriptors_of_a_process_whose_main_thread_ended() -> None:
    code = """import ctypes, os, sys, threading
threading.Thread(target=os.read, args=(int(sys.argv[1]), 1)).start()
ctypes.CDLL(None).pthread_exit(None)"""
    with pipe() as (r, w), keeper(r, w, command=(sys.executable, "-c", code, str(r))) as pid:
        wait_until(lambda: (stat := read_stat(pid)) and stat.state == "zombie", what="its first thread to end")
        os.close(w)
        assert ends_of(own(r)).writers == {pid}
        (tid,) = {*thread_ids(pid)} - {pid}
        assert channel(tid, r) == own(r)
