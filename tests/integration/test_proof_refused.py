"""Locks that somebody has been granted and has not counted yet, which no proof may call orphaned."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support import wait_until
from support.targets import FEW, INTERPRETERS, Target, may_have, observing, only, state, target, until, watch

from semtrace.observe.evidence import sightings
from semtrace.observe.observer import Observer

few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())
own_gil = pytest.mark.parametrize("python", [INTERPRETERS[v] for v in ("3.12", "3.14") if v in INTERPRETERS])

BUSY = """
import time
def computes():
    while True:
        if lock.acquire(False):
            lock.release()
        sum(range(20000))
def starts():
    for _ in range(2):
        threading.Thread(target=computes, daemon=True).start()
def forks():
    say(threading.current_thread().executor, 'forking')
    while True:
        if os.fork() == 0:
            os._exit(0)
        time.sleep(0.02)
"""

# In an interpreter of its own, with its own lock: one thread waits for the semaphore, and another then keeps that
# interpreter's lock in one long call of C.
INSIDE = """
import _multiprocessing, itertools, os, _thread
other = _multiprocessing.SemLock._rebuild({handle}, 1, 1, None)
def takes():
    other.acquire()
    other.release()
_thread.start_new_thread(takes, ())
os.read({go}, 1)
os.write({say}, b"x")
sum(itertools.repeat(1, 1 << 40))
"""
INTERPRETER = f"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
go, give_go = os.pipe()
said, say_it = os.pipe()
def runs():
    text = {INSIDE!r}.format(handle=lock._semlock.handle, go=go, say=say_it)
    interpreters.run_string(interpreters.create(), text)
def starts_interpreter():
    threading.Thread(target=runs, daemon=True).start()
def hogs():
    os.write(give_go, b'x')
    os.read(said, 1)
"""


def computed_s(pid: int) -> float:
    return psutil.Process(pid).cpu_times().user


def define(t: Target, source: str) -> None:
    t.do("p", f"exec({source!r}, GLOBALS)")


def grant_without_gil(t: Target, name: str, lock: str = "lock") -> Callable[[], None]:
    """Has a second thread of a process be granted the lock by `a`, while its first keeps the interpreter lock."""
    t.thread(f"{name}2", by=name)
    t.do(name, "sys.setswitchinterval(100)")
    t.do("a", "lock.acquire()")
    t.block(f"{name}2", lock)
    end = t.hog(name)
    t.do("a", "lock.release()")
    return end


def never_orphaned(observer: Observer, seconds: float) -> None:
    assert "orphaned" not in {only(s).state for s in watch(observer, seconds)}


@few
def test_uncounted_holder_is_seen_among_computing_threads_and_newborns(python: str) -> None:
    with target(python) as t:
        define(t, BUSY)
        t.fork("a", "b", "c", "d")
        t.do("c", "starts()")
        t.do("d", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
        t.start_doing("d", "forks()", "forking")
        end = grant_without_gil(t, "b")
        with observing(t.root) as observer:
            may_have(observer, t.pids["b"])
            for lock in map(only, watch(observer, 2.0)):
                assert lock.state in ("held", "unknown")
                assert {h.pid for h in lock.holders} <= {t.pids["b"]}
                assert not lock.sure_holders
            end()
            t.done("b2")
            assert [h.pid for h in state(observer, "held", never="orphaned").holders] == [t.pids["b"]]


@few
@pytest.mark.parametrize("interval", [0.005, 1e-6])
def test_the_same_where_the_module_is_linked_into_the_interpreter(
    python: str, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it wakes up to ask for the interpreter lock."""
    monkeypatch.setattr(sightings, "acquiring_code", lambda *_: None)
    with target(python) as t:
        t.fork("a", "b")
        t.thread("b2", by="b")
        t.do("b", f"sys.setswitchinterval({interval})")
        t.do("a", "lock.acquire()")
        t.block("b2", "lock")
        t.start_doing("b", "hog_with_cpu()", "hogging")
        t.do("a", "lock.release()")
        with observing(t.root) as observer:
            never_orphaned(observer, 2.0)


@few
def test_uncounted_holder_may_be_a_daemon_outside_the_server(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.fork_away("away", by="b")
        end = grant_without_gil(t, "away")
        with observing(t.root) as observer:
            may_have(observer, t.pids["away"])
            never_orphaned(observer, 1.0)
            end()
            t.done("away2")
            assert [h.pid for h in state(observer, "held", never="orphaned").holders] == [t.pids["away"]]


@few
def test_a_holder_that_forks_all_the_time_is_the_holder(python: str) -> None:
    with target(python) as t:
        define(t, BUSY)
        t.fork("a", "b")
        t.do("b", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
        t.do("b", "lock.acquire()")
        t.start_doing("b", "forks()", "forking")
        with observing(t.root) as observer:
            never_orphaned(observer, 2.0)


@few
def test_a_copy_of_the_module_under_another_name_is_known(python: str, tmp_path: Path) -> None:
    with target(python) as t:
        t.do("p", "import _multiprocessing, importlib.util")
        copy = shutil.copy(t.do("p", "_multiprocessing.__file__").strip("'"), tmp_path / "renamed.so")
        os.chmod(copy, 0o755)
        t.do("p", f"spec = importlib.util.spec_from_file_location('_multiprocessing', {str(copy)!r})")
        t.do("p", "copied = importlib.util.module_from_spec(spec)")
        t.do("p", "spec.loader.exec_module(copied)")
        t.do("p", "other = copied.SemLock._rebuild(lock._semlock.handle, 1, 1, None)")
        t.fork("a", "b")
        end = grant_without_gil(t, "b", "other")
        with observing(t.root) as observer:
            may_have(observer, t.pids["b"])
            never_orphaned(observer, 1.0)
            end()


@own_gil
def test_uncounted_holder_may_wait_for_the_gil_of_another_interpreter(python: str) -> None:
    """Of one that was made after the first suspicion."""
    with target(python) as t:
        define(t, INTERPRETER)
        t.fork("a", "b", "c")
        t.thread("b2", by="b")
        t.send("b2", "threading.Event().wait(100)")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")
            t.do("p", "ctypes.CDLL(None).sem_post(ctypes.c_void_p(lock._semlock.handle))")
            t.do("c", "lock.acquire()")
            t.do("b", "starts_interpreter()")
            until(observer, lambda s: t.pids["b"] in [w.pid for w in only(s).waiters])
            before_s = computed_s(t.pids["b"])
            t.do("b", "hogs()")
            # Only once it is in its long call, nobody else of its interpreter gets on.
            wait_until(lambda: computed_s(t.pids["b"]) > before_s + 0.1, what="the long call")
            t.do("c", "lock.release()")
            never_orphaned(observer, 2.0)
            lock = only(observer.snapshot())
            assert lock.state == "unknown" or lock.holders
            assert not lock.sure_holders


FULL_PIPE = """
import faulthandler
def report_into_full_pipe():
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write, True)
    faulthandler.register(signal.SIGUSR1, file=write, all_threads=False)
"""


@few
def test_grant_interrupted_by_a_handler_that_blocks_is_never_orphaned(python: str) -> None:
    """A C handler runs while the thread that was granted the lock waits for the interpreter lock, and blocks."""
    with target(python) as t:
        t.fork("a", "b")
        t.thread("b2", by="b")
        t.do("b", f"exec({FULL_PIPE!r}, GLOBALS)")
        t.do("b2", "report_into_full_pipe()")
        t.do("b", "sys.setswitchinterval(100)")
        t.do("a", "lock.acquire()")
        t.block("b2", "lock")
        end = t.hog("b")
        t.do("a", "lock.release()")
        with observing(t.root) as observer:
            may_have(observer, t.pids["b"])
            ctypes.CDLL(None).tgkill(t.pids["b"], t.tids["b2"], signal.SIGUSR1)
            wait_until(lambda: t.syscall("b2").startswith("1 "), what="the handler to block in write")
            never_orphaned(observer, 1.0)
            may_have(observer, t.pids["b"])
        end()
