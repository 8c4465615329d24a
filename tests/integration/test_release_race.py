"""Releases beside a server whose workers take and release the locks without a pause, and are killed while inside."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from support import PROGRAMS, alive, child_pids, start, wait_until

from semtrace import repair
from semtrace.errors import SemtraceError
from semtrace.gunicorn import server_of
from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.post import open_semaphore
from semtrace.observe import Observer

SERVERS, WORKERS, RELEASERS, SECONDS = 2, 3, 2, 20
RECORD = struct.Struct("<III")


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files: needs root")
def test_two_holders_are_never_let_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 30)
    outcomes: Counter[str] = Counter()
    over = threading.Event()
    threads = []
    with contextlib.ExitStack() as stack:
        files = [tmp_path / str(number) for number in range(SERVERS)]
        for number, file in enumerate(files):
            file.write_bytes(bytes(RECORD.size))
            argv = (sys.executable, str(PROGRAMS / "racing.py"), str(file), str(WORKERS))
            root, log = stack.enter_context(start(*argv))
            wait_until(lambda log=log: "ready" in log.read_text())  # type: ignore[misc]
            numbers = random.Random(seed + number)
            threads += [threading.Thread(target=_releases, args=(root.pid, over, outcomes)) for _ in range(RELEASERS)]
            threads.append(threading.Thread(target=_kills, args=(root.pid, file, over, numbers, outcomes)))
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        over.set()
        for thread in threads:
            thread.join()
        seen = [_record(file) for file in files]
    with capsys.disabled():
        print(f" seed {seed}, {dict(outcomes)}, came in {[times for _, times, _ in seen]}")
    assert [wrong for _, _, wrong in seen] == [0] * SERVERS
    assert outcomes["released"] >= 10
    assert outcomes["released"] + outcomes["refused"] >= 100
    assert set(outcomes) <= {"released", "refused", "killed"}


@pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files: needs root")
def test_the_workers_notice_a_second_one_inside(tmp_path: Path) -> None:
    """What the test above rests on: a unit given back without a proof is noticed."""
    file = tmp_path / "shared"
    file.write_bytes(bytes(RECORD.size))
    with start(sys.executable, str(PROGRAMS / "racing.py"), str(file), str(WORKERS)) as (root, log):
        wait_until(lambda: "ready" in log.read_text())
        maps = SemaphoreMaps(root.pid)
        (semaphore,) = [mapped.id for mapped in maps.semaphores()]
        maps.close()
        with open_semaphore(semaphore, None, [root.pid]) as opened:
            wait_until(lambda: (opened.give_back(1), _record(file)[2])[1])


def _record(file: Path) -> tuple[int, int, int]:
    inside, times, wrong = RECORD.unpack(file.read_bytes())
    return inside, times, wrong


def _releases(root: int, over: threading.Event, outcomes: Counter[str]) -> None:
    """Asks for it again and again, whatever its state is."""
    observer = Observer(server_of(root))
    try:
        (lock,) = wait_until(lambda: observer.snapshot().locks)
        while not over.is_set():
            outcomes[_release(observer, str(lock.id))] += 1
    finally:
        observer.close()


def _release(observer: Observer, which: str) -> str:
    try:
        repair.release(observer, repair.choose(observer, which), lambda _: None)
    except SemtraceError as error:
        return "refused" if error.exit_code == 1 else repr(error)
    except Exception as error:  # noqa: BLE001  a thread's would be lost
        return repr(error)
    return "released"


def _kills(root: int, file: Path, over: threading.Event, numbers: random.Random, outcomes: Counter[str]) -> None:
    """Kills who is inside as soon as the lock is in use again; sometimes somebody else, sometimes without an orphan."""
    while not over.is_set():
        before = _record(file)[1]
        wait_until(lambda before=before: _record(file)[1] > before + 20 or over.is_set(), 60)  # type: ignore[misc]
        over.wait(numbers.random() * 0.05)
        inside = _record(file)[0]
        victims = [inside] if inside and alive(inside) else child_pids(root)
        with contextlib.suppress(ProcessLookupError):
            os.kill(numbers.choice(victims), signal.SIGKILL)
            outcomes["killed"] += 1
