"""Semaphores without a name: parts of a Queue or Condition, or locks that look like such parts and are none."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from support.targets import FEW, INTERPRETERS, SOME, Target, observing, target, until, watch

from semtrace.model import Lock, Snapshot
from semtrace.observe.evidence.owned import Owned
from semtrace.observe.observer import Observer, settle
from semtrace.rules.basis import Limits, is_read_lock
from semtrace.servers.discovery import server_of

every = pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS.keys())
some = pytest.mark.parametrize("python", SOME.values(), ids=SOME.keys())
few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())

# A reference that nothing has keeps them: no module or frame leads there.
HIDE = "hide = lambda *o: [ctypes.pythonapi.Py_IncRef(ctypes.py_object(x)) for x in o] and [id(x) for x in o]"
GET = "get = lambda i: ctypes.cast(hidden[i], ctypes.py_object).value"


@contextlib.contextmanager
def hiding(python: str, objects: str, package: str = "multiprocessing") -> Iterator[Target]:
    """A target whose only semaphores are those of these objects, which no name leads to."""
    with target(python, f"import {package} as mp") as t:
        for command in (HIDE, GET, f"hidden = hide({objects})", "gc.collect()"):
            t.do("p", command)
        yield t


def primitive(lock: Lock) -> str:
    """What it is part of, in lower case if it is a signal; `-` for a lock of its own."""
    name = (lock.part_of or "-").split()[0]
    return name.lower() if lock.signal else name


def owned(observer: Observer) -> Snapshot:
    """A snapshot after the search for the owners."""
    return until(observer, lambda s: not observer.undecided())


PARTS = {
    "mp.Queue(3)": {"Queue": 2, "queue": 1},
    "mp.Queue()": {"Queue": 2, "queue": 1},
    "mp.JoinableQueue()": {"JoinableQueue": 3, "joinablequeue": 5},
    "mp.SimpleQueue()": {"SimpleQueue": 2},
    "mp.Condition()": {"Condition": 1, "condition": 3},
    "mp.Event()": {"Event": 1, "event": 4},
    "mp.Barrier(2)": {"Barrier": 1, "barrier": 3},
    "mp.Value('i', 1)": {"Value": 1},
    "mp.Array('i', 3)": {"Array": 1},
    "mp.Lock(), mp.Lock(), mp.BoundedSemaphore(3)": {"-": 3},
    "mp.RLock(), mp.Semaphore(0), mp.Semaphore(0), mp.Semaphore(0)": {"-": 4},
}


@every
def test_owners_show_the_parts_of_each_primitive(python: str) -> None:
    expected: Counter[str] = Counter()
    for each in PARTS.values():
        expected.update(each)
    with hiding(python, ", ".join(PARTS)) as t, observing(t.root) as observer:
        snapshot = owned(observer)
        assert {lock.name for lock in snapshot.locks} == {None}
        assert Counter(map(primitive, snapshot.locks)) == expected


@some
def test_orphan_that_looks_like_a_queues_signal_is_found(python: str) -> None:
    with hiding(python, "mp.Lock(), mp.Lock(), mp.BoundedSemaphore(2)") as t:
        t.fork("a")
        t.do("a", "[get(2).acquire() for _ in range(2)]")
        t.kill("a")
        with observing(t.root) as observer:
            snapshot = until(observer, lambda s: any(lock.state == "orphaned" for lock in s.locks))
            (lock,) = [lock for lock in snapshot.locks if lock.state == "orphaned"]
            assert (lock.kind, lock.maximum, lock.part_of) == ("BoundedSemaphore", 2, None)


@some
def test_full_queue_whose_producer_ended_is_never_orphaned(python: str) -> None:
    with hiding(python, "mp.Queue(2)") as t:
        t.fork("a")
        t.do("a", "[get(0).put(i) for i in range(2)]; get(0).close(); get(0).join_thread()")
        t.kill("a")
        with observing(t.root) as observer:
            seen = [*watch(observer, 0.5), owned(observer), *watch(observer, 0.5)]
        assert {lock.state for snapshot in seen for lock in snapshot.locks if lock.maximum == 2} == {"unknown"}
        assert {primitive(lock) for lock in seen[-1].locks} == {"Queue", "queue"}


@pytest.mark.parametrize("package", ["multiprocess", "billiard"])
def test_copies_of_multiprocessing_are_recognised_by_their_classes(package: str) -> None:
    pytest.importorskip(package)
    objects = ["mp.Queue(3)", "mp.Event()", "mp.Condition()", "mp.Value('i', 1)", "mp.Lock()"]
    with hiding(sys.executable, ", ".join(objects), package) as t, observing(t.root) as observer:
        found = Counter(map(primitive, owned(observer).locks))
        expected = Counter({"-": 1})
        for each in objects[:-1]:
            expected.update(PARTS[each])
        assert found == expected


@pytest.mark.parametrize("package", ["multiprocess", "billiard"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_full_queue_of_a_copy_is_healthy(package: str, named: bool) -> None:
    pytest.importorskip(package)
    with hiding(sys.executable, "mp.Queue(2)", package) as t:
        if named:
            t.do("p", "queue = get(0)")
        t.fork("a")
        t.do("a", "[get(0).put(i) for i in range(2)]; get(0).close(); get(0).join_thread()")
        t.kill("a")
        with observing(t.root) as observer:
            seen = [*watch(observer, 0.5), settle(observer), *watch(observer, 0.5)]
        assert {lock.state for snapshot in seen for lock in snapshot.locks if lock.maximum == 2} <= {"unknown"}
        assert {lock.name for lock in seen[-1].locks} == (
            {"__main__.queue._rlock", "__main__.queue._wlock", "__main__.queue._sem"} if named else {None}
        )
        assert not seen[-1].findings


def test_named_semaphore_of_a_queue_stays_a_signal() -> None:
    with target(sys.executable, "queue = mp.Queue(2); sem = queue._sem") as t:
        t.fork("a")
        t.do("a", "[queue.put(i) for i in range(2)]; queue.close(); queue.join_thread()")
        t.kill("a")
        with observing(t.root) as observer:
            snapshot = until(observer, lambda s: any(lock.name == "__main__.sem" for lock in s.locks))
            seen = [snapshot, *watch(observer, 1.0)]
        assert {lock.state for s in seen for lock in s.locks if lock.name == "__main__.sem"} == {"unknown"}
        (lock,) = [lock for lock in seen[-1].locks if lock.name == "__main__.sem"]
        assert (lock.signal, lock.part_of, lock.attribute) == (True, "__main__.queue", "_sem")


@few
def test_renamed_type_and_a_subclass_are_both_semlocks(python: str) -> None:
    with target(python) as t:
        t.do("p", "import _multiprocessing; renamed = ctypes.create_string_buffer(b'_copy.Anything')")
        t.do("p", "ctypes.c_void_p.from_address(id(_multiprocessing.SemLock) + 24).value = ctypes.addressof(renamed)")
        t.do("p", "exec('class Sub(_multiprocessing.SemLock):\\n    more = 1')")
        t.do("p", "second = Sub._rebuild(lock._semlock.handle, 1, 1, None)")
        t.do("p", "ctypes.pythonapi.Py_IncRef(ctypes.py_object(second))")
        t.fork("a", "b")
        t.do("a", "second.acquire()")
        with observing(t.root) as observer:
            snapshot = until(observer, lambda s: bool(s.locks[0].holders))
            assert [holder.pid for holder in snapshot.locks[0].holders] == [t.pids["a"]]
            t.kill("a")
            until(observer, lambda s: s.locks[0].state == "orphaned")


def test_guess_hides_no_orphan_and_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an interpreter that can be read, two locks and a BoundedSemaphore may be a Queue's."""
    monkeypatch.setattr("semtrace.cpython.runtime.LAYOUTS", {})
    with hiding(sys.executable, "mp.Lock(), mp.Lock(), mp.BoundedSemaphore(2)") as t:
        t.fork("a")
        t.do("a", "[get(2).acquire() for _ in range(2)]")
        t.kill("a")
        with observing(t.root) as observer:
            seen = [owned(observer), *watch(observer, 1.0)]
    bounded = [lock for snapshot in seen for lock in snapshot.locks if lock.maximum == 2]
    assert {(lock.state, lock.signal) for lock in bounded} == {("unknown", False)}
    assert all("may be a signal inside Queue" in (lock.reason or "") for lock in bounded)


@pytest.mark.parametrize("objects", ["mp.Lock(), mp.Lock(), mp.BoundedSemaphore(2)", "mp.Queue(2)"])
def test_guess_is_called_one_until_owners_are_searched(objects: str, monkeypatch: pytest.MonkeyPatch) -> None:
    due = Owned.is_due
    monkeypatch.setattr(Owned, "is_due", lambda *_: False)
    with hiding(sys.executable, objects) as t:
        locks = "Queue" not in objects
        t.fork("a")
        t.do("a", "[get(2).acquire() for _ in range(2)]" if locks else "[get(0)._sem.acquire() for _ in range(2)]")
        t.kill("a")
        with observing(t.root) as observer:
            until(observer, lambda s: any(lock.maximum == 2 for lock in s.locks))
            seen = [lock for s in watch(observer, 1.0) for lock in s.locks if lock.maximum == 2]
            assert {(lock.state, lock.signal) for lock in seen} == {("unknown", False)}
            assert all("may be a signal" in (lock.reason or "") for lock in seen)
            monkeypatch.setattr(Owned, "is_due", due)
            until(observer, lambda s: any(lock.state == "orphaned" if locks else lock.signal for lock in s.locks))


@few
def test_lock_that_joins_a_queue_later_is_not_orphaned(python: str) -> None:
    """As one that was searched for its owner while the Queue was being made."""
    with hiding(python, "mp.Lock(), mp.BoundedSemaphore(2), mp.SimpleQueue()") as t, observing(t.root) as observer:
        assert Counter(map(primitive, owned(observer).locks)) == {"-": 2, "SimpleQueue": 2}
        t.do("p", "queue = mp.Queue(2); queue._sem = get(1); hidden += hide(queue); del queue")
        t.fork("a")
        t.do("a", "[get(1).acquire() for _ in range(2)]")
        t.kill("a")
        until(observer, lambda s: any(lock.signal and lock.maximum == 2 for lock in s.locks), never="orphaned")
        assert not any(lock.state == "orphaned" for s in watch(observer, 1.0) for lock in s.locks)


@pytest.mark.parametrize("package", ["multiprocessing", "multiprocess", "billiard"])
def test_idle_pool_without_a_name_is_healthy(package: str) -> None:
    """One worker holds the lock of the queue of jobs, and the others wait for it."""
    pytest.importorskip(package)
    with hiding(sys.executable, "mp.Pool(3)", package) as t:
        observer = Observer(server_of(t.root), search_budget_s=5.0, limits=Limits(0.5, 0.5))
        with contextlib.closing(observer):
            until(observer, lambda s: any(lock.holders for lock in s.locks))
            seen = [owned(observer), *watch(observer, 1.5)]
        assert all(is_read_lock(lock) for lock in seen[-1].locks if lock.holders)
        assert [finding for snapshot in seen for finding in snapshot.findings] == []
