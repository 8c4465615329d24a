"""Releases beside servers whose workers take and release their lock without a pause, and are killed while inside."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import struct
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from semtrace.errors import SemtraceError
from semtrace.observe.observer import Observer
from semtrace.repairs import repair
from semtrace.servers.discovery import server_of

from .processes import PROGRAMS, alive, child_pids, start, wait_until

RECORD = struct.Struct("<III")
WORKERS, RELEASERS = 3, 2
KILLS_MEANWHILE = 0.004  # the chance in each of about 200 turns in a second


class Race(NamedTuple):
    """`outcomes`: how often it was released, refused, and a worker killed. `came_in` is how often anybody was let in,
    `wrong` how often a second one was inside, for each server.
    """

    outcomes: Counter[str]
    came_in: list[int]
    wrong: list[int]


def race(directory: Path, servers: int, seed: int, over: Callable[[Counter[str]], bool], patience_s: float) -> Race:
    """Runs until `over` says so of the outcomes."""
    outcomes: Counter[str] = Counter()
    ended = threading.Event()
    threads = []
    with contextlib.ExitStack() as stack:
        files = [directory / str(number) for number in range(servers)]
        for number, file in enumerate(files):
            file.write_bytes(bytes(RECORD.size))
            argv = (sys.executable, str(PROGRAMS / "racing.py"), str(file), str(WORKERS), str(int(patience_s) + 60))
            root, log = stack.enter_context(start(*argv))
            wait_until(lambda log=log: "ready" in log.read_text())  # type: ignore[misc]
            numbers = random.Random(seed + number)
            for _ in range(RELEASERS):
                releaser = stack.enter_context(_releaser(root.pid))
                threads.append(threading.Thread(target=_count, args=(releaser, ended, outcomes)))
            threads.append(threading.Thread(target=_kills, args=(root.pid, file, ended, numbers, outcomes)))
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: over(outcomes), patience_s, f"the end of the race; so far {dict(outcomes)}")
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        seen = [record(file) for file in files]
    return Race(outcomes, [times for _, times, _ in seen], [wrong for _, _, wrong in seen])


def record(file: Path) -> tuple[int, int, int]:
    """Who is inside, how often anybody came in, how often a second one was inside."""
    inside, times, wrong = RECORD.unpack(file.read_bytes())
    return inside, times, wrong


@contextlib.contextmanager
def _releaser(root: int) -> Iterator[Connection]:
    """A process that releases, as `semtrace release` is one: several in one process wait for its interpreter lock."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_releases, args=(root, there))
    process.start()
    there.close()
    with here:
        yield here
    process.join()


def _count(releaser: Connection, over: threading.Event, outcomes: Counter[str]) -> None:
    """Counts what it reports, and one that ends before its time, which then is an outcome that should not be."""
    while not over.is_set():
        if releaser.poll(0.1):
            try:
                outcomes[releaser.recv()] += 1
            except EOFError:
                outcomes["a releaser has ended"] += 1
                return


def _releases(root: int, reports: Connection) -> None:
    """Asks for it again and again, whatever its state is, until nobody listens any more."""
    observer = Observer(server_of(root))
    try:
        (lock,) = wait_until(lambda: observer.snapshot().locks)
        while not reports.poll():
            reports.send(_release(observer, str(lock.id)))
    except BrokenPipeError:
        pass
    finally:
        observer.close()


def _release(observer: Observer, which: str) -> str:
    try:
        repair.release(observer, repair.choose(observer, which), lambda _: None)
    except SemtraceError as error:
        return "refused" if error.exit_code == 1 else repr(error)
    except Exception as error:  # noqa: BLE001  an outcome that should not be: the race goes on
        traceback.print_exc()
        return type(error).__name__
    return "released"


def _kills(root: int, file: Path, over: threading.Event, numbers: random.Random, outcomes: Counter[str]) -> None:
    """Kills who is inside as soon as the lock is in use again; sometimes somebody else, sometimes without an orphan.
    Now and then anybody is killed while an orphan is proved and released.
    """

    def kill(victims: list[int]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(numbers.choice(victims), signal.SIGKILL)
            outcomes["killed"] += 1

    while not over.is_set():
        before = record(file)[1]
        # On a busy machine it may take long until an orphan is proved and released.
        while record(file)[1] <= before + 20 and not over.wait(0.005):
            if numbers.random() < KILLS_MEANWHILE and (anybody := child_pids(root)):
                kill(anybody)
        over.wait(numbers.random() * 0.05)
        inside = record(file)[0]
        kill([inside] if inside and alive(inside) else child_pids(root))
