"""An orphaned lock of a real gunicorn: what is told of it while workers die and are born, and when the server ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

from support import PATIENCE_S, Running, alive, start_gunicorn, wait_until

from semtrace.model import Lock, Snapshot
from semtrace.observe.observer import Observer
from semtrace.servers.discovery import server_of

WAITERS = 2


@contextlib.contextmanager
def orphaned() -> Iterator[tuple[Running, Observer]]:
    """A lock whose holder was killed, proved orphaned, with two waiters."""
    args = ("--workers", "3", "--preload", "--timeout", "60", "--graceful-timeout", "1")
    with start_gunicorn("orphaning:app", *args) as running, contextlib.closing(_observer(running)) as observer:
        running.wait_workers(3)
        holder = int(running.get("/hold").rsplit(b"\n", 1)[-1])
        os.kill(holder, signal.SIGKILL)
        wait_until(lambda: not alive(holder))
        running.wait_workers(3)
        for _ in range(WAITERS):
            threading.Thread(target=_ask, args=(running,), daemon=True).start()
        wait_until(lambda: _proved(observer.snapshot()), what="the orphan and its waiters")
        yield running, observer


def _observer(running: Running) -> Observer:
    return Observer(server_of(running.pid))


def _ask(running: Running) -> None:
    with contextlib.suppress(OSError):
        running.get("/use", 60)


def _lock(snapshot: Snapshot) -> Lock:
    (lock,) = snapshot.locks
    return lock


def _proved(snapshot: Snapshot) -> bool:
    return _lock(snapshot).state == "orphaned" and len(_lock(snapshot).waiters) == WAITERS


def _until_the_end(observer: Observer) -> Snapshot:
    deadline = time.monotonic() + PATIENCE_S
    while (snapshot := observer.snapshot()).alive:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.02)
    return snapshot


def test_findings_stay_after_the_server_has_ended() -> None:
    with orphaned() as (running, observer):
        running.signal(signal.SIGTERM)
        snapshot = _until_the_end(observer)
        assert _lock(snapshot).state == "orphaned", snapshot.locks
        assert len(_lock(snapshot).waiters) == WAITERS
        assert [process.role for process in snapshot.processes].count("worker") >= WAITERS
        assert "orphaned-lock" in [finding.code for finding in snapshot.findings]
        assert observer.snapshot() is snapshot


def test_orphan_stays_orphaned_while_waiters_die_and_workers_are_born() -> None:
    with orphaned() as (running, observer):
        seen: list[Snapshot] = []
        for _ in range(12):
            victim = _lock(observer.snapshot()).waiters[0].pid
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: not alive(victim), what="its end")  # type: ignore[misc]
            threading.Thread(target=_ask, args=(running,), daemon=True).start()
            wait_until(lambda: _proved(_seen(observer, seen)), what="the next waiter")
        looks = [_lock(snapshot) for snapshot in seen]
        assert not (other := [(lock.state, lock.reason) for lock in looks if not _stays(lock)]), other
        since = [lock.orphaned_s or 0.0 for lock in looks]
        assert since == sorted(since), "the proof was never begun anew"


def _stays(lock: Lock) -> bool:
    """Orphaned, or doubted for a moment, since on a loaded machine a thread may wait long for a processor."""
    doubted = lock.state == "unknown" and (lock.reason or "").endswith("is running and may be about to claim it")
    return lock.state == "orphaned" or (doubted and lock.orphaned_s is not None)


def _seen(observer: Observer, seen: list[Snapshot]) -> Snapshot:
    seen.append(observer.snapshot())
    return seen[-1]
