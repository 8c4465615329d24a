"""Thousands of judgements over healthy programs, none of which may be false; and what one costs.

    python tests/bench/doctor.py [SECONDS]      for each program, default 60

Every picture is judged. Infos are no alarms. Prints what was found by code, and exits with 1 if there was anything.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from support import PROGRAMS, start, start_gunicorn, wait_until  # noqa: E402
from test_doctor import disturb, playing  # noqa: E402

from semtrace.observe.observer import Observer  # noqa: E402
from semtrace.present import findings as present  # noqa: E402
from semtrace.rules import findings  # noqa: E402
from semtrace.servers.discovery import server_of  # noqa: E402

PAUSE_S = 0.005
COST_ROUNDS = 200


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    return max([judge(title, target, seconds) for title, target in TARGETS.items()])


@contextmanager
def program(*command: str) -> Iterator[int]:
    with start(sys.executable, str(PROGRAMS / command[0]), *command[1:]) as (_, log):
        wait_until(lambda: log.read_text().strip(), 30, "the program")
        yield int(log.read_text().split()[0])


@contextmanager
def gunicorn() -> Iterator[int]:
    with start_gunicorn("seed:app", "-w", "4", "--preload") as server:
        server.wait_workers(4)
        yield server.pid


@contextmanager
def busy_gunicorn() -> Iterator[int]:
    """The demo's bank and its customers, while workers come and go."""
    with playing("shared", workers=4) as play:
        play.customers.start()
        stopped = threading.Event()
        trouble = threading.Thread(target=disturb, args=(play.server.pid, stopped))
        trouble.start()
        try:
            yield play.server.pid
        finally:
            stopped.set()
            trouble.join()


TARGETS: dict[str, Callable[[], contextmanager[int]]] = {  # type: ignore[type-arg, valid-type]
    "every kind of lock, 3 processes": lambda: program("busy.py", "3"),
    "every kind of lock, 12 processes": lambda: program("busy.py", "12"),
    "one lock as fast as possible, 4 processes": lambda: program("hot.py", "4"),
    "gunicorn at rest": gunicorn,
    "gunicorn under load, reloads and churn": busy_gunicorn,
}


def judge(title: str, target: Callable[[], contextmanager[int]], seconds: float) -> int:  # type: ignore[type-arg, valid-type]
    alarms: Counter[str] = Counter()
    infos: Counter[str] = Counter()
    looks, example = 0, ""
    with target() as pid:  # type: ignore[attr-defined]
        observer = Observer(server_of(pid))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            snapshot = observer.snapshot()
            looks += 1
            for finding in snapshot.findings:
                (infos if finding.severity == "note" else alarms)[finding.code] += 1
                if finding.severity != "note":
                    example = f"{present.title(finding)}: {present.evidence(finding)}"
            time.sleep(PAUSE_S)
        began = time.perf_counter()
        for _ in range(COST_ROUNDS):
            findings(snapshot)
        cost_us = (time.perf_counter() - began) / COST_ROUNDS * 1e6
        observer.close()
    judged = looks * len(snapshot.locks)
    print(f"{title:44} {looks:6} pictures {judged:7} locks judged  {cost_us:5.0f} µs a judgement", flush=True)
    print(f"    false alarms: {dict(alarms) or 'none'}   infos: {dict(infos) or 'none'}   {example}", flush=True)
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
