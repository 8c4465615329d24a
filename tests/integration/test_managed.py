"""Waits for the locks of a Manager: who holds an RLock, and what leaves open whether a wait will end."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support import PROGRAMS, kill_tree, wait_until
from support.pythons import VERSIONS, need

from semtrace.linux.channels import ChannelId, Ends, Found
from semtrace.linux.process import read_stat
from semtrace.model import Doubt, FindingCode, HeldBy, RootKind, Snapshot, ThreadId, Wait, WaitKind
from semtrace.observe.observer import Observer
from semtrace.rules import Limits
from semtrace.servers import discovery

SOME = [version for version in VERSIONS if version in ("3.8", "3.11", "3.14")]


@dataclass(frozen=True)
class Clients:
    """A program that has told who holds the lock, who waits for it, and which process is the manager."""

    observer: Observer
    holder: int
    manager: int
    waiter: int
    second: int = 0

    def seen(
        self, condition: Callable[[Snapshot, Wait], object] = lambda snapshot, wait: True
    ) -> tuple[Snapshot, Wait]:
        """Return the first snapshot, and the wait of the client that waits, for which the condition holds."""

        def look() -> tuple[Snapshot, Wait] | None:
            snapshot = self.observer.snapshot()
            waits = [each for each in snapshot.waits.waits if each.pid == self.waiter and not each.idle]
            wait = next((each for each in waits if each.target.kind is WaitKind.MANAGER_LOCK), None)
            return (snapshot, wait) if wait is not None and condition(snapshot, wait) else None

        return wait_until(look, what="the wait", pause=0.1)


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Callable[[str, str], Clients]]:
    with contextlib.ExitStack() as stack:

        def started(version: str, case: str, *, alone: bool = False) -> Clients:
            """Watch the whole program, or the client that waits as if it were a server of its own."""
            command = [need(version), str(PROGRAMS / "managers.py"), case, str(tmp_path)]
            popen = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROGRAMS)
            stack.callback(popen.communicate)
            stack.callback(kill_tree, popen.pid)
            assert popen.stdout is not None
            pids = [int(each) for each in popen.stdout.readline().split()]
            server = discovery.server_of(popen.pid)
            stat = read_stat(pids[2])
            assert stat is not None
            observer = Observer(replace(server, id=stat.id) if alone else server, limits=Limits(wait_s=3.0))
            stack.callback(observer.close)
            return Clients(observer, *pids)

        yield started


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize("case", ["rlock", "network_rlock"])
def test_holder_of_a_managers_rlock_is_its_client(
    version: str, case: str, clients: Callable[[str, str], Clients]
) -> None:
    program = clients(version, case)
    snapshot, wait = program.seen(lambda _, wait: wait.holders and wait.holders[0].process.pid == program.holder)
    assert wait.holders is not None
    assert wait.holders == (ThreadId(wait.holders[0].process, program.holder),)
    assert wait.bound
    assert not wait.timed
    assert wait.thread not in snapshot.waits.stuck
    assert wait.target.process is not None
    assert wait.target.process.pid == program.manager
    snapshot, _ = program.seen(lambda snapshot, _: snapshot.findings)
    (finding,) = snapshot.findings
    held = finding.fact(HeldBy)
    assert finding.code is FindingCode.LONG_WAIT
    assert held is not None
    assert [each.thread.pid for each in held.holds] == [program.holder]


def test_client_of_several_threads_is_held_by_the_managers_thread(clients: Callable[[str, str], Clients]) -> None:
    program = clients(SOME[0], "rlock_threads")
    _, wait = program.seen(lambda _, wait: wait.holders)
    assert wait.holders is not None
    assert [each.process.pid for each in wait.holders] == [program.manager]


@pytest.mark.parametrize("version", SOME)
def test_ring_of_two_threads_through_a_manager_is_a_deadlock(
    version: str, clients: Callable[[str, str], Clients]
) -> None:
    program = clients(version, "ring")
    # A moment before, the manager's threads for the two are all that is known of it: the same ring.
    snapshot, _ = program.seen(lambda snapshot, wait: any(wait in root.waits for root in snapshot.waits.roots))
    (root,) = snapshot.waits.roots
    assert root.kind is RootKind.RING
    assert root.proven
    assert {each.thread.process.pid for each in root.waits} == {program.waiter}
    assert len(root.waits) == 2
    assert [each.code for each in snapshot.findings if each.severity == "error"] == [FindingCode.DEADLOCK]


def test_timeout_that_a_client_gave_is_seen_in_the_manager(clients: Callable[[str, str], Clients]) -> None:
    snapshot, wait = clients(SOME[0], "timed").seen(lambda _, wait: wait.timed)
    assert wait.thread not in snapshot.waits.stuck
    assert not snapshot.waits.roots


def test_manager_outside_the_server_may_wake_its_client(clients: Callable[..., Clients]) -> None:
    program = clients(SOME[0], "rlock", alone=True)
    snapshot, wait = program.seen(lambda _, wait: wait.wakers.processes)
    assert [each.pid for each in wait.wakers.processes] == [program.manager]
    assert wait.thread not in snapshot.waits.stuck
    assert not snapshot.waits.roots


def test_manager_that_cannot_be_read_leaves_a_doubt(
    clients: Callable[..., Clients], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(wanted: Collection[ChannelId], root: object) -> Found:
        return Found(dict.fromkeys(wanted, Ends()), (), (), True, True)

    monkeypatch.setattr("semtrace.observe.blocked.blocks.find_ends", hidden)
    program = clients(SOME[0], "rlock", alone=True)
    snapshot, wait = program.seen(lambda _, wait: wait.wakers.doubt is Doubt.UNREADABLE)
    assert wait.thread not in snapshot.waits.stuck


@pytest.mark.parametrize("case", ["network", "address"])
def test_manager_that_strangers_can_reach_proves_nothing(case: str, clients: Callable[[str, str], Clients]) -> None:
    snapshot, wait = clients(SOME[0], case).seen(lambda _, wait: wait.wakers.doubt is Doubt.OUTSIDER)
    assert wait.thread not in snapshot.waits.stuck
    assert not [each for each in snapshot.findings if each.severity == "error"]


@pytest.mark.parametrize("version", SOME)
def test_new_thread_with_a_dead_holders_identity_holds_nothing(
    version: str, clients: Callable[[str, str], Clients]
) -> None:
    """Where glibc gave it to none of the new ones, it is proven that nobody holds the lock."""
    program = clients(version, "again")
    snapshot, wait = program.seen(lambda snapshot, wait: snapshot.findings)
    assert not wait.holders
    proven = wait.thread in snapshot.waits.stuck
    assert [each.code for each in snapshot.findings] == [FindingCode.STUCK if proven else FindingCode.LONG_WAIT]


@pytest.mark.parametrize("version", SOME)
def test_holder_is_asked_again_while_a_client_sleeps(
    version: str, clients: Callable[..., Clients], tmp_path: Path
) -> None:
    """A release wakes one waiter only, and the others do not run."""
    program = clients(version, "handed")
    pair = [program.waiter, program.second]

    def holders(snapshot: Snapshot) -> dict[int, list[int]]:
        waits = [each for each in snapshot.waits.waits if each.pid in pair]
        assert not snapshot.waits.stuck
        return {each.pid: [holder.process.pid for holder in each.holders or ()] for each in waits}

    both = {each: [program.holder] for each in pair}
    wait_until(lambda: holders(program.observer.snapshot()) == both, what="a wait")
    (tmp_path / "go").touch()
    swapped = [{one: [other]} for one, other in (pair, pair[::-1])]
    wait_until(lambda: holders(program.observer.snapshot()) in swapped, what="the next holder")


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize("case", ["rlock", "network"])
def test_process_of_a_manager_has_its_role(version: str, case: str, clients: Callable[[str, str], Clients]) -> None:
    """Also that of a SyncManager with an address."""
    shown = clients(version, case)
    processes = {each.pid: each.role for each in shown.seen()[0].processes}
    assert {pid for pid, role in processes.items() if role == "manager"} == {shown.manager}
