"""Semaphores of C programs, built with glibc and with musl: by each library's own rules. There is no Python of musl."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import PROGRAMS, child_pids, kill_tree, wait_until
from support.targets import until

from semtrace.linux import futex
from semtrace.linux.maps import SemaphoreMaps, SemMapping
from semtrace.linux.post import OpenSemaphore, Word, open_semaphore
from semtrace.linux.shm import file_names
from semtrace.model import Lock
from semtrace.observe.observer import Observer
from semtrace.repairs import leftovers
from semtrace.repairs.repair import why_not
from semtrace.servers.discovery import server_of

SOURCE = PROGRAMS / "c" / "semaphores.c"
COMPILERS = {"glibc": ["gcc", "-pthread"], "musl": ["musl-gcc"], "static musl": ["musl-gcc", "-static"]}
CHILDREN = 3


@pytest.fixture(scope="module", params=COMPILERS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    command = COMPILERS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here (Debian: gcc, musl-tools)")
    built = tmp_path_factory.mktemp("c") / "python3"  # what is watched is called so
    subprocess.run([*command, "-O1", "-o", str(built), str(SOURCE)], check=True)
    return str(built)


@dataclass
class Server:
    """A running semaphores.c: its name in /dev/shm, and the pipes to and from all of its processes."""

    popen: subprocess.Popen[bytes]
    name: str

    @property
    def pid(self) -> int:
        return self.popen.pid

    def said(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline().decode().strip()

    def go_on(self) -> None:
        """Let the child that has the semaphore post it and end."""
        assert self.popen.stdin
        self.popen.stdin.write(b"x")
        self.popen.stdin.flush()

    def mapped(self) -> SemMapping:
        maps = SemaphoreMaps(self.pid)
        with contextlib.closing(maps):
            (found,) = maps.semaphores()
        return found

    def waiting(self) -> set[int]:
        address = self.mapped().address
        threads = ((pid, futex.read_thread(pid, pid)) for pid in child_pids(self.pid))
        return {pid for pid, thread in threads if thread and thread.futex == address}


@contextlib.contextmanager
def running(program: str, name: str, *arguments: str) -> Iterator[Server]:
    popen = subprocess.Popen([program, name, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server = Server(popen, name)
    try:
        assert server.said() == "ready"
        yield server
    finally:
        kill_tree(popen.pid)
        popen.communicate()


@pytest.fixture
def server(program: str) -> Iterator[Server]:
    """One whose children all wait, for a semaphore that nobody has."""
    name = f"/mp-{secrets.token_hex(4)}"
    try:
        with running(program, name, str(CHILDREN)) as found:
            wait_until(lambda: len(found.waiting()) == CHILDREN, what="all children to wait")
            yield found
    finally:
        for file in (f"/dev/shm/sem.{name[1:]}", f"/dev/shm/{name[1:]}"):
            Path(file).unlink(missing_ok=True)


def opened(server: Server, name: str | None) -> OpenSemaphore:
    return open_semaphore(server.mapped().id, name, [server.pid])


def observed(server: Server) -> Lock:
    with contextlib.closing(Observer(server_of(server.pid))) as observer:
        snapshot = until(observer, lambda s: s.locks and len(s.locks[0].waiters or ()) == CHILDREN)
    (lock,) = snapshot.locks
    return lock


def test_semaphore_is_shown_with_name_value_and_waiters(server: Server) -> None:
    lock = observed(server)
    assert (lock.value, lock.shm_name, lock.linked) == (0, server.name, True)
    assert {waiter.pid for waiter in lock.waiters or ()} == set(child_pids(server.pid))


def test_unlinked_semaphore_is_shown_too(server: Server) -> None:
    for file in (f"/dev/shm/sem.{server.name[1:]}", f"/dev/shm/{server.name[1:]}"):
        Path(file).unlink(missing_ok=True)
    lock = observed(server)
    assert (lock.value, lock.linked) == (0, False)


def test_a_process_that_opened_it_by_name_is_seen(server: Server, program: str) -> None:
    with running(program, server.name) as other:
        assert other.mapped().id == server.mapped().id


def test_clean_leaves_it_alone_while_it_is_mapped(server: Server) -> None:
    (found,) = [each for each in leftovers.find() if each.entry.name in file_names(server.name)]
    assert found.entry.id == server.mapped().id
    users = " ".join(map(str, sorted((server.pid, *child_pids(server.pid)))))
    assert found.kept == f"in use by PID {users}"


def test_release_of_what_no_python_holds_is_refused(server: Server) -> None:
    """There is no SemLock that could show who has it."""
    with contextlib.closing(Observer(server_of(server.pid))) as observer:
        snapshot = until(observer, lambda s: s.locks)
        assert snapshot.locks[0].state == "unknown"
        assert why_not(snapshot.locks[0], snapshot) is not None


@pytest.mark.parametrize("by_name", [True, False])
def test_all_waiters_go_on_after_one_unit_is_given_back(server: Server, by_name: bool) -> None:
    """One gets it, the others sleep again, and each post of a child wakes the next: no wake is lost."""
    if not by_name and os.geteuid() != 0:
        pytest.skip("map_files needs root")
    with opened(server, server.name if by_name else None) as semaphore:
        assert semaphore.read().value == 0
        assert semaphore.give_back(1) == 1
    got = [int(server.said())]
    for left in range(CHILDREN - 1, 0, -1):
        wait_until(lambda left=left: len(server.waiting()) == left, what="the others to wait on")
        assert not server.waiting() & set(got)
        server.go_on()
        got.append(int(server.said()))
    server.go_on()
    wait_until(lambda: not child_pids(server.pid), what="the last child to end")
    assert len(set(got)) == CHILDREN
    with opened(server, server.name) as semaphore:
        assert semaphore.read() == Word(1, 0)
