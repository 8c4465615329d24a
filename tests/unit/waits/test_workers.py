"""Which waits keep a worker from its work: never those beside a first thread that still takes requests."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import pid, server, worker

from semtrace.model import Frame, Process, Server, Target, ThreadId, Wait, WaitKind, Wakers
from semtrace.waits.workers import serving_waits

WORKER = 11
REQUEST = (Frame("app", "/srv/app.py", 9), Frame("handle", "/usr/lib/python3/gunicorn/workers/gthread.py", 300))
OWN = (Frame("loop", "/srv/app.py", 5), Frame("run", "/usr/lib/python3.11/threading.py", 980))


def wait(tid: int, stack: tuple[Frame, ...] | None = OWN, kind: WaitKind = WaitKind.SIGNAL, **changes: Any) -> Wait:
    target = Target(kind, "x", process=pid(WORKER), address=4096)
    return Wait(ThreadId(pid(WORKER), tid), target, False, Wakers(), 60.0, 60.0, stack=stack, **changes)


def kept(of: Server, *waits: Wait, **changes: Any) -> list[int]:
    process: Process = worker(WORKER, **{"threads": len(waits) + 1, **changes})
    return [each.thread.tid for each in serving_waits(process, list(waits), of)]


def gthread(threads: int | None) -> Server:
    return server(worker_class="gthread", threads=threads)


@pytest.mark.parametrize("worker_class", ["sync", "gevent", None])
def test_background_thread_keeps_no_worker_from_its_work(worker_class: str | None) -> None:
    assert kept(server(worker_class=worker_class, threads=1), wait(12)) == []


def test_first_thread_decides() -> None:
    assert kept(server(threads=1), wait(WORKER), wait(12)) == [WORKER]


@pytest.mark.parametrize(("threads", "found"), [(2, [12, 13]), (3, []), (None, [])])
def test_gthread_worker_is_full_by_its_setting(threads: int | None, found: list[int]) -> None:
    assert kept(gthread(threads), wait(12, REQUEST), wait(13, REQUEST), wait(14)) == found


def test_thread_without_frames_may_serve_a_request() -> None:
    assert kept(gthread(1), wait(12, None)) == [12]
    assert kept(server(worker_class="sync", threads=1), wait(12, None)) == []


@pytest.mark.parametrize("changes", [{"idle": True}, {"event_loop": True}])
def test_process_that_takes_what_comes_is_not_kept(changes: dict[str, bool]) -> None:
    lock = wait(12, kind=WaitKind.PRIVATE_LOCK)
    assert kept(server(kind="uvicorn", worker_class=None), lock, **changes) == []


def test_script_is_kept_by_locks_and_not_by_signals() -> None:
    script = server(kind="python", worker_class=None)
    assert kept(script, wait(12)) == []
    assert kept(script, wait(12, kind=WaitKind.PRIVATE_LOCK)) == [12]
