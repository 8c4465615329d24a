"""One process under watch: what cannot be asked of it is never taken for an answer."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.process import read_stat
from semtrace.model import SemId
from semtrace.observe.watch.watched import RELIST_S, Watched


@pytest.fixture
def watched() -> Iterator[Watched]:
    """This very process, with one lock at least."""
    lock = multiprocessing.get_context("fork").Lock()
    stat = read_stat(os.getpid())
    assert stat is not None
    with contextlib.closing(Watched(stat)) as found:
        yield found
    del lock


def refuse(maps: SemaphoreMaps) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_process_with_unlistable_mappings_keeps_known_ones_and_is_hidden(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched.relist(0.0)
    known = dict(watched.semaphores)
    assert known
    with monkeypatch.context() as patched:
        patched.setattr(SemaphoreMaps, "semaphores", refuse)
        assert watched.relist(RELIST_S)
    assert watched.hidden
    assert watched.semaphores == known
    assert watched.problems
    assert watched.relist(2 * RELIST_S), "who may hold which lock has changed"
    assert not watched.hidden
    assert not watched.problems


def test_process_with_unopenable_mappings_is_hidden_unless_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    for number, hidden in ((errno.EMFILE, True), (errno.EACCES, True), (errno.ENOENT, False), (errno.ESRCH, False)):

        def fail(maps: SemaphoreMaps, pid: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(SemaphoreMaps, "__init__", fail)
        with contextlib.closing(Watched(stat)) as watched:
            assert watched.hidden is hidden, errno.errorcode[number]


def test_of_semaphores_that_it_maps_no_more_nothing_is_kept(watched: Watched) -> None:
    assert watched.relist(0.0)
    gone = SemId(0, 0, 1)
    for kept in (watched.semaphores, watched.table_names, watched.searched_s):
        kept[gone] = 0  # type: ignore[index]
    assert watched.relist(RELIST_S)
    assert gone not in {*watched.semaphores, *watched.table_names, *watched.searched_s}


def test_a_thread_that_started_since_the_refresh_is_looked_at() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with contextlib.closing(Watched(replace(stat, threads=1))) as watched:
            assert thread.native_id in watched.activity(SemId(0, 0, 1)).ran_ns
            assert thread.native_id in {each.thread.tid for each in watched.sightings()}
    finally:
        end.set()
        thread.join()
