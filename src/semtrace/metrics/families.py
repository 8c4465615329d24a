"""Make metric families of readings. Pure. Names and labels are a contract: docs/metrics.md has them.

No family has a label for a process: with one, a scrape of 256 workers took 131 ms instead of 3 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from semtrace import __version__
from semtrace.metrics.grouping import Key
from semtrace.metrics.reading import LockReading, Reading
from semtrace.metrics.traced import BOUNDS, Counts, Spread
from semtrace.rules.headline import Verdict

Readings = Mapping[str, Reading]  # by the label of the server

# "ended" is not among them: the series of an ended server go away.
VERDICTS: tuple[Verdict, ...] = tuple(each for each in get_args(Verdict) if each != "ended")

_SERVER = ["server"]
_LOCK = ["server", "lock", "kind"]
_LE = (*map(floatToGoString, BOUNDS), "+Inf")


def families(readings: Readings) -> Iterator[Metric]:
    """Yield all families, those without samples too: their names are what a registry asks for."""
    yield InfoMetricFamily("semtrace", "The semtrace that exports these metrics", {"version": __version__})
    yield GaugeMetricFamily("semtrace_servers", "Servers that are watched", len(readings))
    yield from _server_gauges(readings)
    yield _findings(readings)
    yield _deaths(readings)
    yield from _lock_gauges(readings)
    yield from _lock_counters(readings)
    yield from _lock_histograms(readings)


def _server_gauges(readings: Readings) -> Iterator[Metric]:
    def single(name: str, text: str, value: Callable[[Reading], float], unit: str = "") -> Metric:
        family = GaugeMetricFamily(name, text, labels=_SERVER, unit=unit)
        for server, reading in readings.items():
            family.add_metric([server], value(reading))
        return family

    yield single(
        "semtrace_last_sample_timestamp_seconds", "When the last sample was taken", lambda r: r.taken_at, "seconds"
    )
    yield single("semtrace_sample_cpu_seconds", "CPU time that the last sample took", lambda r: r.cost_s, "seconds")
    yield single("semtrace_stuck_threads", "Threads that nothing which lives can wake", lambda r: r.stuck_threads)
    yield single("semtrace_unreadable_processes", "Processes that semtrace may not read", lambda r: r.unreadable)
    workers = GaugeMetricFamily("semtrace_workers", "Workers by what they do", labels=["server", "state"])
    waiting = GaugeMetricFamily(
        "semtrace_waiting_threads",
        "Blocked threads by what they wait for, without idle ones",
        labels=["server", "kind"],
    )
    verdicts = GaugeMetricFamily("semtrace_verdict", "1 for the verdict on the server", labels=["server", "verdict"])
    for server, reading in readings.items():
        for state, count in reading.workers.items():
            workers.add_metric([server, state], count)
        for kind, count in reading.waiting_threads.items():
            waiting.add_metric([server, str(kind)], count)
        for verdict in VERDICTS:
            verdicts.add_metric([server, verdict], reading.verdict == verdict)
    yield from (workers, waiting, verdicts)


def _findings(readings: Readings) -> Metric:
    family = GaugeMetricFamily("semtrace_findings", "Findings that are so now", labels=["server", "code", "severity"])
    for server, reading in readings.items():
        for (code, severity), count in reading.findings.items():
            family.add_metric([server, str(code), severity], count)
    return family


def _deaths(readings: Readings) -> Metric:
    family = CounterMetricFamily(
        "semtrace_worker_deaths", "Workers that ended between two samples, by cause", labels=["server", "cause"]
    )
    for server, reading in readings.items():
        for cause, count in reading.deaths.items():
            family.add_metric([server, str(cause)], count)
    return family


# Name, unit, help and value.
_LOCK_GAUGES: tuple[tuple[str, str, str, Callable[[LockReading], float]], ...] = (
    ("waiters", "", "Threads that wait for the lock, without those that wait for work", lambda each: each.waiters),
    ("holders", "", "Processes that hold the lock, or units of it", lambda each: each.holders),
    ("longest_wait_seconds", "seconds", "Longest wait at present, at least", lambda each: each.longest_wait_s),
    ("held_seconds", "seconds", "Longest hold at present, at least", lambda each: each.held_s),
    (
        "orphaned",
        "",
        "Semaphores of this name that are locked and held by no living process",
        lambda each: each.orphaned,
    ),
    ("unknown", "", "Semaphores of this name of which nobody can tell who holds them", lambda each: each.unknown),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Counts], float]], ...] = (
    ("acquired", "Acquires of a traced lock", lambda each: each.acquired),
    ("contended", "Acquires of a traced lock that had to wait", lambda each: each.contended),
    ("failed", "Attempts to acquire a traced lock that gave up", lambda each: each.failed),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[Counts], Spread]], ...] = (
    ("wait_seconds", "Waits for a traced lock, of acquires that had to wait", lambda each: each.wait),
    ("hold_seconds", "Holds of a traced lock", lambda each: each.hold),
)


def _lock_gauges(readings: Readings) -> Iterator[Metric]:
    for name, unit, text, value in _LOCK_GAUGES:
        family = GaugeMetricFamily(f"semtrace_lock_{name}", text, labels=_LOCK, unit=unit)
        for labels, lock in _locks(readings):
            family.add_metric(labels, value(lock))
        yield family


def _lock_counters(readings: Readings) -> Iterator[Metric]:
    deaths = CounterMetricFamily(
        "semtrace_lock_holder_deaths", "Times that a process was proven to have died holding the lock", labels=_LOCK
    )
    for labels, lock in _locks(readings):
        deaths.add_metric(labels, lock.holder_deaths)
    yield deaths
    for name, text, value in _COUNTERS:
        family = CounterMetricFamily(f"semtrace_lock_{name}", text, labels=_LOCK)
        for labels, counts in _traced(readings):
            family.add_metric(labels, value(counts))
        yield family


def _lock_histograms(readings: Readings) -> Iterator[Metric]:
    for name, text, value in _HISTOGRAMS:
        family = HistogramMetricFamily(f"semtrace_lock_{name}", text, labels=_LOCK, unit="seconds")
        for labels, counts in _traced(readings):
            spread = value(counts)
            buckets = list(zip(_LE, accumulate(spread.buckets), strict=True))
            family.add_metric(labels, buckets, spread.total_s)
        yield family


def _locks(readings: Readings) -> Iterator[tuple[list[str], LockReading]]:
    for server, reading in readings.items():
        yield from (([server, *key], lock) for key, lock in sorted(reading.locks.items(), key=_key))


def _traced(readings: Readings) -> Iterator[tuple[list[str], Counts]]:
    yield from ((labels, lock.traced) for labels, lock in _locks(readings) if lock.traced is not None)


def _key(item: tuple[Key, LockReading]) -> Key:
    return item[0]
