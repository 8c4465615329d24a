"""What metrics cost: prints each figure beside the limit that the project set itself.

    python tests/bench/metrics.py [NAME …]        names: scrape render sample

`scrape` asks a real listener over HTTP while pages of 4 servers with 256 workers and 16 traced locks each come every
half second. `render` is what the sampling process pays for a page, `sample` what it pays for a server of that size.
"""

from __future__ import annotations

import http.client
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support import snapshots  # noqa: E402

from semtrace.metrics import access, listener  # noqa: E402
from semtrace.metrics.deaths import Deaths  # noqa: E402
from semtrace.metrics.page import Pages  # noqa: E402
from semtrace.metrics.reading import Counting, Reading  # noqa: E402
from semtrace.model import Durations, Snapshot, Statistics  # noqa: E402

SERVERS, WORKERS, LOCKS, SCRAPES = 4, 256, 16, 1000


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


def line(what: str, measured: str, limit: str = "") -> None:
    print(f"{what:58} {measured:>22}  {limit}", flush=True)


def snapshot() -> Snapshot:
    times = Durations(1000, 5.0, spread=tuple((step * 10.0**power, 7) for power in range(-6, 2) for step in (1, 3)))
    counted = Statistics(1000, 100, 1, times, times, (("app.py:1", Statistics(1000, 100, 1, times, times)),))
    waiters = tuple(snapshots.waiter(20 + number) for number in range(8))
    locks = [
        snapshots.lock(
            f"app.lock{number}", number, statistics=counted, holders=(snapshots.holder(11),), waiters=waiters
        )
        for number in range(LOCKS)
    ]
    return snapshots.snapshot(*locks, processes=snapshots.processes(WORKERS))


def readings() -> dict[str, Reading]:
    reading = Counting(Deaths(lambda process: None, lambda process: False)).read(snapshot())
    return {f"app{number}": replace(reading) for number in range(SERVERS)}


def scrape() -> None:
    listening = access.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    with listener.started(listening, access.Access(), 10.0) as server:
        client = os.fork()  # it must not wait for the interpreter lock of who renders
        if not client:
            try:
                ask(port)
            finally:
                os._exit(0)
        pages, read = Pages(), readings()
        while not os.waitpid(client, os.WNOHANG)[0]:
            page = pages.render(read)
            server.put(page.plain, page.openmetrics)
            time.sleep(0.5)


def ask(port: int) -> None:
    while timed(port)[1] != 200:
        time.sleep(0.05)
    for name, headers in FORMATS.items():
        took = sorted(timed(port, headers)[0] for _ in range(SCRAPES))
        line(f"scrape, {name}: median", f"{statistics.median(took) * 1e3:.2f} ms")
        line(f"scrape, {name}: p99", f"{took[SCRAPES * 99 // 100] * 1e3:.2f} ms", "limit 5 ms")


FORMATS: dict[str, dict[str, str]] = {
    "plain": {},
    "OpenMetrics, gzip": {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"},
}


def timed(port: int, headers: dict[str, str] | None = None) -> tuple[float, int]:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics", headers=headers or {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return time.perf_counter() - began, answer.status


def render() -> None:
    pages, read = Pages(), readings()
    for name, act in (("plain", pages.plain), ("both formats", pages.render)):
        line(
            f"render {SERVERS} servers, {name}: CPU", f"{cpu(lambda act=act: act(read)) * 1e3:.0f} ms", "each interval"
        )
    line("size of the plain page", f"{len(pages.plain(read)) / 1e3:.0f} kB")


def sample() -> None:
    counting, shown = Counting(Deaths(lambda process: None, lambda process: False)), snapshot()
    line(
        "numbers of one snapshot: CPU", f"{cpu(lambda: counting.read(shown)) * 1e3:.1f} ms", "each interval and server"
    )


def cpu(act: Callable[[], object]) -> float:
    took = []
    for _ in range(9):
        began = time.process_time()
        act()
        took.append(time.process_time() - began)
    return statistics.median(took)


BENCHES: dict[str, Callable[[], None]] = {"scrape": scrape, "render": render, "sample": sample}

if __name__ == "__main__":
    main()
