"""The sweep: everybody is asked, however fast they come and go; who has a file open; whose image and page it is."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import IO

import pytest

from semtrace.errors import SemtraceError
from semtrace.linux import lineage, openfiles, pagecount, sweep
from semtrace.linux.process import Stat
from semtrace.linux.sweep import Obstacle, Shared
from semtrace.model import ProcessId, SemId

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's count is for root")
NONE = SemId(0, 0, 1)


def _stat(pid: int, start: int = 1, ppid: int = 1, *, forked: bool = True) -> Stat:
    return Stat(ProcessId(pid, start), "x", "sleeping", ppid, 0x40 if forked else 0, 0, 1, 4096, 4096)


class Machine:
    """A process list that is another each time it is read. Who is not in `living` has ended when it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lists: Iterator[dict[int, int]]) -> None:
        """Each list has the pids with their start times; a start time of 0 is one that ends at once."""
        self.asked: list[ProcessId] = []
        self.rounds = 0
        self._lists, self._now = lists, {}
        monkeypatch.setattr(sweep.os, "listdir", self._listdir)
        monkeypatch.setattr(sweep, "read_stat", self._read_stat)
        monkeypatch.setattr(sweep, "_exists", lambda pid: False)
        monkeypatch.setattr(sweep, "_uses", self._uses)

    def _listdir(self, path: str) -> list[str]:
        self.rounds += 1
        self._now = next(self._lists)
        return ["self", *map(str, self._now)]

    def _read_stat(self, pid: int) -> Stat | None:
        return _stat(pid, self._now[pid]) if self._now.get(pid) else None

    def _uses(self, stat: Stat, wanted: object) -> dict[SemId, sweep._Use]:
        self.asked.append(stat.id)
        return {}


def _settled() -> bool:
    return sweep._Asking({NONE}).run()


def _always(processes: dict[int, int]) -> Iterator[dict[int, int]]:
    return (processes for _ in count())


def test_each_process_is_asked_once_and_the_list_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, _always({1: 1, 5: 7}))
    assert _settled()
    assert (machine.rounds, machine.asked) == (2, [ProcessId(5, 7), ProcessId(1, 1)])


def test_processes_that_start_during_the_sweep_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, iter([{1: 1}, {1: 1, 2: 2}]))
    assert _settled()
    assert machine.asked == [ProcessId(1, 1), ProcessId(2, 2)]


def test_one_who_escaped_makes_the_list_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, iter([{1: 1, 9: 0}, {1: 1, 10: 3}, {1: 1, 11: 0}, {1: 1}, {1: 1, 10: 3}]))
    assert _settled()
    assert machine.rounds == 5
    assert ProcessId(10, 3) in machine.asked


def test_another_process_of_the_same_pid_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, iter([{1: 1, 2: 2}, {1: 1, 2: 3}]))
    assert _settled()
    assert machine.asked == [ProcessId(2, 2), ProcessId(1, 1), ProcessId(2, 3)]


def test_where_somebody_always_escapes_there_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, ({1: 1, pid: 0} for pid in count(2)))
    assert not _settled()
    assert machine.rounds == sweep._MOST_ROUNDS


def test_one_that_ends_while_it_is_asked_has_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have forked after the list was read; one that stays a zombie has no more children in the next round."""
    machine = Machine(monkeypatch, ({1: 1, pid: 5} for pid in count(2)))
    monkeypatch.setattr(sweep, "read_stat", lambda pid: replace(_stat(pid), state="zombie" if pid > 1 else "sleeping"))
    assert not _settled()
    machine = Machine(monkeypatch, _always({1: 1, 2: 5}))
    monkeypatch.setattr(sweep, "read_stat", lambda pid: replace(_stat(pid), state="zombie" if pid > 1 else "sleeping"))
    assert _settled()
    assert machine.rounds == 3


def test_rights_do_not_help_against_an_endless_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, ({pid: 0} for pid in count(2)))
    (found,) = sweep.sweep({NONE: Shared(frozenset(), named=True)}).values()
    assert Obstacle("restless") in found.obstacles
    assert not found.obstacles[0].rights_help


def test_an_unreadable_process_is_hidden_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stat: Stat, wanted: object) -> dict[SemId, sweep._Use]:
        raise PermissionError(13, "Permission denied")

    Machine(monkeypatch, iter([{1: 1, 5: 5}, {1: 1, 5: 5}]))
    monkeypatch.setattr(sweep, "_uses", refuse)
    asking = sweep._Asking({NONE})
    assert asking.run()
    assert asking.unasked().keys() == {1, 5}
    monkeypatch.setattr(sweep, "read_stat", lambda pid: _stat(1) if pid == 1 else None)
    assert asking.unasked().keys() == {1}


# -- lineage


def _world(monkeypatch: pytest.MonkeyPatch, *stats: Stat) -> None:
    monkeypatch.setattr(lineage, "read_stat", {stat.id.pid: stat for stat in stats}.get)


ROOT = _stat(20, 100, 10, forked=False)
SHELL = _stat(10, 50, 1, forked=False)
INIT = _stat(1, 1, 0, forked=False)


@pytest.mark.parametrize(("process", "may"), [
    (_stat(30, 200, 1), True),  # adopted by the first process
    (_stat(30, 200, 10), True),  # by another ancestor of the root, or its child
    (_stat(30, 200, 20), True),  # the root's child
    (_stat(30, 200, 1, forked=False), False),  # of a program of its own
    (_stat(30, 90, 1), False),  # older than the root
    (_stat(30, 200, 40), False),  # its parent is older than the root, and no ancestor of it
    (_stat(30, 200, 50), True),  # its parent is younger
    (_stat(30, 200, 77), True),  # its parent has just ended
    (_stat(30, 200, 0), True),  # it came from outside
])  # fmt: skip
def test_who_may_have_inherited_from_the_root(monkeypatch: pytest.MonkeyPatch, process: Stat, may: bool) -> None:
    daemon, late = _stat(40, 60, 1, forked=False), _stat(50, 150, 1, forked=False)
    _world(monkeypatch, INIT, SHELL, ROOT, daemon, late, process)
    assert lineage.may_have_inherited(process, ROOT) is may


def test_without_a_root_everybody_may_have_inherited() -> None:
    assert lineage.may_have_inherited(_stat(30, 1, forked=False), None)


# One write for each line, for both write into one pipe.
FORKS = "import os, sys; os.fork(); os.write(1, b'%d\\n' % os.getpid()); sys.stdin.read()"


def test_the_root_is_who_executed_the_image_of_all() -> None:
    argv = [sys.executable, "-c", FORKS]
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        family = [int(one.stdout.readline()) for _ in range(2)]
        strangers = [int(other.stdout.readline()) for _ in range(2)]
        (child,) = set(family) - {one.pid}
        for pids in (family, [child]):
            root = lineage.root_of(pids)
            assert root is not None
            assert root.id.pid == one.pid
        assert lineage.root_of([child, *strangers]) is None
        assert lineage.image_of(one.pid) == lineage.image_of(child) != lineage.image_of(other.pid)
        for popen in (one, other):
            popen.communicate(b"")


def test_one_whose_forebear_has_ended_has_no_root() -> None:
    program = "import os, time\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True); input()"
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        child = int(popen.stdout.readline())
        popen.wait()
        assert lineage.root_of([child]) is None
        popen.communicate(b"\n")


# -- open files and pages


def _id(file: IO[bytes]) -> SemId:
    info = os.fstat(file.fileno())
    return SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)


@pytest.mark.parametrize("without", ["", "_statx", "inode"])
def test_an_open_file_is_found_by_device_and_inode(monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    if without == "_statx":
        monkeypatch.setattr(openfiles, "_statx", None)
    if without == "inode":  # before Linux 5.14
        monkeypatch.setattr(openfiles, "_INODE", openfiles.re.compile(rb"^no such line(\d)$"))
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        there = _id(file)
        wanted = {there, there._replace(minor=there.minor + 1), there._replace(inode=there.inode + 1)}
        assert openfiles.opened(os.getpid(), wanted) == {there}
    assert openfiles.opened(os.getpid(), wanted) == frozenset()


def test_a_process_with_too_many_files_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openfiles, "MOST_DESCRIPTORS", 1)
    with pytest.raises(OSError, match="files open"):
        openfiles.opened(os.getpid(), {NONE})


def test_descriptors_that_cannot_be_judged_are_never_taken_for_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = {errno.EACCES: PermissionError, errno.EMFILE: SemtraceError}
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        wanted = {_id(file)}
        for number in (errno.EACCES, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOENT):

            def refuse(path: str, number: int = number) -> str:
                raise OSError(number, os.strerror(number))

            monkeypatch.setattr(openfiles.os, "readlink", refuse)
            if number in raised:
                with pytest.raises(raised[number]):
                    openfiles.opened(os.getpid(), wanted)
            else:
                found = openfiles.opened(os.getpid(), wanted)
                assert found == (wanted if number == errno.ENAMETOOLONG else set())


@as_root
def test_the_kernel_counts_who_has_used_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")
    lock, ready, end = fork.Lock(), fork.SimpleQueue(), fork.SimpleQueue()
    at = lock._semlock.handle  # type: ignore[attr-defined]

    def use(used: Callable[[], object]) -> None:
        used()
        ready.put(None)
        end.get()

    with lock:
        for used, alone in ((lambda: None, True), (lambda: lock.acquire(False), False)):
            process = fork.Process(target=use, args=(used,))
            process.start()
            ready.get()
            mine, both = [(os.getpid(), at)], [(os.getpid(), at), (process.pid, at)]
            if not pagecount._has_ever_swapped():
                assert pagecount.are_all(mine) is alone
                assert pagecount.are_all(both)
            end.put(None)
            process.join()
        monkeypatch.setattr(pagecount, "_has_ever_swapped", lambda: True)
        assert not pagecount.are_all(mine)
        assert not pagecount.are_all([])
