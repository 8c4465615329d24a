"""Locks that a living process may hold by other means than a SemLock are never orphaned; all others still are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest
from support.targets import FEW, Target, observing, only, state, target, until

from semtrace.observe.evidence.foreign import ForeignUse
from semtrace.observe.observer import Observer

few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())

NAMED = "lock = mp.get_context('spawn').Lock()"
TAKE = "exec('def take():\\n    ctypes.CDLL(None).sem_wait(ctypes.c_void_p(lock._semlock.handle))')"


def uses(observer: Observer, name: str, driven: Target) -> ForeignUse | None:
    (watched,) = [w for w in observer._fleet.all if w.id.pid == driven.pids[name]]
    (semaphore,) = watched.semaphores
    return watched.foreign_users(semaphore)


def judged(driven: Target, observer: Observer, name: str) -> ForeignUse | None:
    """What stands against the proof of the server's only lock, once it was searched for."""
    wanted = f"PID {driven.pids[name]} may hold it by other means than multiprocessing"
    lock = only(until(observer, lambda s: wanted in (only(s).reason or ""), never="orphaned"))
    assert lock.state == "unknown"
    for _ in range(5):
        time.sleep(0.1)
        assert only(observer.snapshot()).state == "unknown"
    return uses(observer, name, driven)


@few
@pytest.mark.parametrize(
    "commands",
    [
        ["libc = ctypes.CDLL(None)", "libc.sem_wait(ctypes.c_void_p(lock._semlock.handle))"],
        ["wait = ctypes.CDLL(None).sem_trywait", "wait.argtypes = [ctypes.c_void_p]", "wait(lock._semlock.handle)"],
        [TAKE, "take()", "gc.collect()"],
    ],
    ids=["library kept", "address as an int", "nothing kept"],
)
def test_lock_taken_by_ctypes_is_not_orphaned(python: str, commands: list[str]) -> None:
    with target(python) as t:
        t.fork("a", "b")
        for command in commands:
            t.do("b", command)
        assert t.do("a", "lock.acquire(False)") == "False"
        with observing(t.root) as observer:
            assert judged(t, observer, "b") is ForeignUse.FUNCTION


@few
def test_lock_opened_again_by_its_name_is_not_orphaned(python: str) -> None:
    with target(python, NAMED) as t:
        t.fork("a", "b")
        t.do("b", "ctypes.CDLL(None).sem_open(lock._semlock.name.encode(), 0)")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            assert judged(t, observer, "b") is ForeignUse.OPENED


@few
def test_lock_mapped_a_second_time_is_not_orphaned(python: str) -> None:
    with target(python, NAMED) as t:
        t.fork("a", "b")
        t.do("b", "import mmap; fd = os.open('/dev/shm/sem.' + lock._semlock.name[1:], os.O_RDWR)")
        t.do("b", "again = mmap.mmap(fd, 32)")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            assert judged(t, observer, "b") is ForeignUse.MAPPED_AGAIN


CODE = """
#include <semaphore.h>
static sem_t *kept;
void keep(void *handle) { kept = handle; }
void take(void *handle) { sem_wait(handle); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("library") / "taking.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-o", path, "-"], input=CODE, text=True, check=True)
    return str(path)


@few
def test_lock_whose_address_c_code_has_is_not_orphaned(python: str, library: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        for name in ("keep", "take"):
            t.do("b", f"ctypes.CDLL({library!r}).{name}(ctypes.c_void_p(lock._semlock.handle))")
        with observing(t.root) as observer:
            assert judged(t, observer, "b") in (ForeignUse.LINKED, ForeignUse.REFERENCE)


@few
def test_c_code_without_the_address_hides_no_orphan(python: str, library: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("b", f"library = ctypes.CDLL({library!r})")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


@few
def test_lock_that_another_object_refers_to_is_not_orphaned(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("b", "raw = ctypes.c_uint.from_address(lock._semlock.handle)")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            assert judged(t, observer, "b") is ForeignUse.REFERENCE


@few
def test_lock_is_orphaned_once_the_other_user_is_gone(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("b", TAKE)
        t.do("b", "take()")
        with observing(t.root) as observer:
            judged(t, observer, "b")
            t.kill("b")
            state(observer, "orphaned")


ORDINARY = {
    "ctypes": "keep = ctypes.CDLL(None).getpid()",
    "sharedctypes": "shared = (mp.Value('i', 1), mp.Array('d', 100)); shared[0].acquire(); shared[0].release()",
    "threads": "[threading.Thread(target=lambda: [lock.acquire() and lock.release() for _ in range(50)]).start()"
    " for _ in range(3)]",
    "ended threads": "[(t.start(), t.join()) for t in [threading.Thread(target=lambda: lock.acquire() and"
    " lock.release()) for _ in range(3)]]",
    "locks that are gone": "[mp.Lock() for _ in range(40)]; [mp.get_context('spawn').Lock() for _ in range(9)]; None",
}


@few
@pytest.mark.parametrize("command", ORDINARY.values(), ids=ORDINARY.keys())
def test_orphan_of_an_ordinary_program_is_proved(python: str, command: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        for name in ("p", "b"):
            t.do(name, command)
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            until(observer, lambda s: any(lock.state == "orphaned" for lock in s.locks))


@few
def test_lock_that_a_spawned_child_opened_is_proved_orphaned(python: str) -> None:
    """Its child has opened the semaphore once for each object that it unpickled."""
    with target(python, NAMED) as t:
        t.start("spawn", "a", "lock")
        t.start("spawn", "b", "lock")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")


LIBRARIES = {
    "gevent": "exec('import gevent\\ndef use():\\n    for _ in range(5):\\n        lock.acquire(); lock.release()\\n"
    "        gevent.sleep(0.001)\\n"
    "gevent.joinall([gevent.spawn(use) for _ in range(20)])')",
    "celery": "exec('import celery\\napp = celery.Celery()\\n@app.task\\ndef add(a, b): return a + b')",
    "billiard": "import billiard; other = billiard.Lock(); queue = billiard.Queue(2)",
    "multiprocess": "import multiprocess; other = multiprocess.Lock(); queue = multiprocess.Queue(2)",
    "joblib": "import joblib; joblib.Parallel(2, prefer='threads')(joblib.delayed(abs)(i) for i in range(4))",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_orphan_beside_a_library_is_proved(library: str) -> None:
    pytest.importorskip(library)
    with target(sys.executable) as t:
        t.do("p", LIBRARIES[library])
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            until(observer, lambda s: any(lock.state == "orphaned" for lock in s.locks))
