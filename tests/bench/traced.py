"""What a traced lock costs: `python tests/bench/traced.py [ROUNDS]` prints one table; nothing else should run.

Nanoseconds for one `with lock: pass`, the least of several runs. Watched means by viewers in processes of their own
that read what came every 10 ms (one that blocks in read() would make each write wake it, at 1 µs more); a stopped one
reads nothing, and its FIFO is full.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]

from support.tracereader import directories  # noqa: E402

import semtrace  # noqa: E402  # with any interpreter, from any directory

VIEWER = """
import contextlib, os, sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from support.tracereader import Viewer
viewer = Viewer(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    time.sleep(0.01)
    with contextlib.suppress(BlockingIOError):
        while os.read(viewer.descriptor, 1 << 20):
            pass
"""


def per_pair(run: Callable[[int], None], rounds: int) -> float:
    """Nanoseconds a round."""
    best = float("inf")
    for _ in range(7):
        began = time.perf_counter()
        run(rounds)
        best = min(best, time.perf_counter() - began)
    return best / rounds * 1e9


def using(lock: contextlib.AbstractContextManager[bool]) -> Callable[[int], None]:
    def run(rounds: int) -> None:
        for _ in range(rounds):
            with lock:
                pass

    return run


@contextlib.contextmanager
def viewers(number: int, directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [
        subprocess.Popen([sys.executable, "-c", VIEWER, str(directory), *sys.path[:2]], stdout=subprocess.PIPE)
        for _ in range(number)
    ]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == b"ready\n"
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def rows(rounds: int) -> Iterator[tuple[str, float]]:
    bare = multiprocessing.Lock()
    bare_recursive, bare_semaphore = multiprocessing.RLock(), multiprocessing.Semaphore(4)
    lock, recursive, semaphore = semtrace.Lock("bench"), semtrace.RLock("deep"), semtrace.Semaphore(4, "pool")
    directory = directories(Path(os.environ["SEMTRACE_SHM"]))[0]
    yield "bare", per_pair(using(bare), rounds)
    yield "traced, unwatched", per_pair(using(lock), rounds)
    for number in (1, 2):
        with viewers(number, directory):
            yield f"traced, watched by {number}", per_pair(using(lock), rounds)
    with viewers(1, directory) as (one,):
        os.kill(one.pid, signal.SIGSTOP)
        yield "traced, one viewer stopped", per_pair(using(lock), rounds)
    with lock:  # notices that all are gone
        pass
    yield "traced, unwatched again", per_pair(using(lock), rounds)
    yield "RLock, bare", per_pair(using(bare_recursive), rounds)
    yield "RLock, traced", per_pair(using(recursive), rounds)
    yield "Semaphore, bare", per_pair(using(bare_semaphore), rounds)
    yield "Semaphore, traced", per_pair(using(semaphore), rounds)
    yield "bare, between two logging.debug to a file", logged(bare, rounds // 20)
    with contextlib.suppress(ImportError):
        yield "bare, in an OpenTelemetry span", spanned(bare, rounds // 20)


def logged(lock: contextlib.AbstractContextManager[bool], rounds: int) -> float:
    logger = logging.getLogger("bench")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    with tempfile.NamedTemporaryFile("w") as file:
        handler = logging.StreamHandler(file)
        logger.addHandler(handler)

        def run(rounds: int) -> None:
            for _ in range(rounds):
                logger.debug("acquiring %s", "bench")
                with lock:
                    logger.debug("acquired %s", "bench")

        return per_pair(run, rounds)


def spanned(lock: contextlib.AbstractContextManager[bool], rounds: int) -> float:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("bench")

    def run(rounds: int) -> None:
        for _ in range(rounds):
            with tracer.start_as_current_span("lock"), lock:
                pass

    return per_pair(run, rounds)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    place = tempfile.mkdtemp(prefix="semtrace-bench-", dir="/dev/shm")
    os.environ["SEMTRACE_SHM"] = place
    try:
        print(f"Python {sys.version.split()[0]}, {rounds} rounds, ns for one `with lock: pass`")
        bare = 0.0
        for name, cost in rows(rounds):
            bare = bare or cost
            print(f"{name:<44}{cost:>8.0f}{cost - bare:>+9.0f}", flush=True)
    finally:
        semtrace.uninstall()
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
