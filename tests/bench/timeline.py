"""What the timeline costs, without the screen: prints each figure beside the limit that the project set itself.

    python tests/bench/timeline.py [NAME …]        names: add full draw hang size

CPU time, the median of several; a ratio is of measurements taken by turns in this one run.
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src")]

from semtrace.model import (  # noqa: E402
    Holder,
    Lock,
    Process,
    ProcessId,
    SemId,
    Server,
    Snapshot,
    TracedEvent,
    Tracing,
    Waiter,
)
from semtrace.timelines.raster import Raster, around  # noqa: E402
from semtrace.timelines.timeline import MOST_OLDER, MOST_SINGLE, Span, Timeline  # noqa: E402

COUNT = 64
COLUMNS = 150
HZ = 5
WORKERS = [ProcessId(1000 + i, 1) for i in range(COUNT)]
LOCKS = [SemId(0, 27, i) for i in range(COUNT)]
SERVER = Server("gunicorn", ProcessId(999, 1), "gunicorn", 0.0, "alice")
PROCESSES = tuple(Process(each, 999, "worker", "sleeping", 0, 1, 0.0) for each in WORKERS)


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


def line(what: str, measured: str, limit: str = "") -> None:
    print(f"{what:64} {measured:>16}  {limit}", flush=True)


def cpu_ms(act: Callable[..., object], *arguments: object) -> float:
    began = time.process_time()
    act(*arguments)
    return 1e3 * (time.process_time() - began)


def look(tick: int, waiters: int = 1, turns: bool = False, events: int = 0, one_in: int = 1) -> Snapshot:
    """Each worker has a lock that the next ones wait for; with `turns` another one at every look."""
    shift = tick if turns else 0
    now, for_s = 100 + tick / HZ, 0.0 if turns else 1 + tick / HZ
    locks = []
    for i, lock in enumerate(LOCKS):
        holder = WORKERS[(i + shift) % COUNT]
        waiting = [WORKERS[(i + shift + 1 + k) % COUNT] for k in range(waiters)]
        waits = tuple(Waiter(each, each.pid, for_s) for each in waiting)
        holds = (Holder(holder, holder.pid, 1, for_s),)
        locks.append(Lock(lock, "Lock", "contended", 0, 1, f"myapp.lock_{i}", holders=holds, waiters=waits))
    told = tuple(released(now, k, tick * events + k) for k in range(events))
    return Snapshot(
        SERVER, 1e9 + now, now, PROCESSES, tuple(locks), tracing=Tracing(True, told, one_in) if told else None
    )


def released(now: float, number: int, sequence: int) -> TracedEvent:
    who = WORKERS[number % COUNT]
    lock = LOCKS[number % COUNT]
    return TracedEvent(now - 1e-4 * number, who, who.pid, "released", lock, "x", None, 5e-5, "app.py:7", sequence)


def full() -> None:
    """As many events as snapshots have, until all room is taken; then one in a hundred of 100,000 a second."""
    for what, events, one_in, looks in (
        ("1000 events a second, each kept", 200, 1, 100 * HZ),
        ("2500 events a second, each kept", 500, 1, 100 * HZ),
        ("100000 events a second, one in a hundred counted", 200, 100, 60 * HZ),
    ):
        timeline = Timeline()
        raster = Raster(timeline, "worker", 60 / COLUMNS)
        times = []
        for tick in range(looks):
            snapshot = look(tick, events=events, one_in=one_in)
            times.append(cpu_ms(timeline.add, snapshot) + cpu_ms(redraw, raster, snapshot.monotonic_s))
        late = times[looks // 2 :]
        line(f"full: {what}: add and redraw", f"{statistics.median(late):.1f} ms", "to reach: 15 ms, at 5 Hz")
        line("  the worst, in which the oldest are counted together", f"{max(late):.1f} ms")
        whole = cpu_ms(redraw, Raster(timeline, "worker", 60 / COLUMNS), timeline.last)
        line("  drawn anew, as by another zoom", f"{whole:.1f} ms")
        found = [cpu_ms(around, timeline, (timeline.last or 0) - 59, (timeline.last or 0) - 58.6) for _ in range(9)]
        line("  what the cursor reads out a minute back", f"{statistics.median(found):.1f} ms")
        line("  spans, and older ones counted together", f"{len(timeline.closed)} + {len(timeline.older)}")


def add() -> None:
    cases = {
        "add: 64 workers x 64 locks, all held, all waited for": (look, "to reach: 1 ms"),
        "  the same, other holders at every look": (lambda tick: look(tick, turns=True), ""),
        "  500 new events at every look, as many as a snapshot has": (lambda tick: look(tick, events=500), ""),
        "  63 threads wait for each of the 64 locks": (lambda tick: look(tick, waiters=63), ""),
    }
    for what, (make, limit) in cases.items():
        timeline = Timeline()
        times = [cpu_ms(timeline.add, make(tick)) for tick in range(60)]
        line(what, f"{statistics.median(times[1:]):.2f} ms", limit)


def filled(count: int) -> Timeline:
    """So many spans in the last minute, and the looks of that minute."""
    timeline = Timeline()
    for tick in range(60 * HZ):
        timeline.add(Snapshot(SERVER, 1e9 + tick / HZ, 100 + tick / HZ, PROCESSES, ()))
    for i in range(count):
        start, who = 100 + i * 59 / count, WORKERS[i % COUNT]
        what = "held" if i % 3 else "waiting"
        timeline._close(Span(LOCKS[i * 7 % COUNT], who, who.pid, what, start, start + 0.3, True))  # type: ignore[arg-type]
    return timeline


def redraw(raster: Raster, now_s: float) -> None:
    first = int(now_s // raster.cell_s) + 1 - COLUMNS
    live = raster.update(first)
    for each in WORKERS:
        raster.cells(each, first, COLUMNS, live)


def going_on(timeline: Timeline, raster: Raster, ticks: range, turns: bool) -> float:
    """The median of a redraw after each new look."""
    times = []
    for tick in ticks:
        timeline.add(look(tick, turns=turns))
        times.append(cpu_ms(redraw, raster, timeline.last))
    return statistics.median(times)


def draw() -> None:
    for count, limit in ((10_000, "to reach: 15 ms, at 5 Hz"), (MOST_SINGLE + 20_000, "")):
        timeline = filled(count)
        raster = Raster(timeline, "worker", 60 / COLUMNS)
        whole = statistics.median(
            cpu_ms(redraw, Raster(timeline, "worker", 60 / COLUMNS), timeline.last) for _ in range(5)
        )
        redraw(raster, timeline.last or 0.0)
        again = going_on(timeline, raster, range(60 * HZ, 63 * HZ), turns=True)
        line(f"draw 64 x 150 cells of {count} spans, when the view opens", f"{whole:.1f} ms")
        line("  again, 128 spans later", f"{again:.1f} ms", limit)
        line("  against the first time", f"x {again / whole:.2f}")
        found = [cpu_ms(around, timeline, 150, 150.4) for _ in range(9)]
        line("  what the cursor reads out", f"{statistics.median(found):.1f} ms")


def hang() -> None:
    """All wait for ten minutes: the spans are few and long, and this is when somebody looks."""
    timeline = Timeline()
    for tick in range(0, 600 * HZ, 2):
        timeline.add(look(tick))
    base = 0.0
    for number, window_s in enumerate((60, 600, 5)):
        raster = Raster(timeline, "worker", window_s / COLUMNS)
        redraw(raster, timeline.last or 0.0)
        begin = 600 * HZ + 20 * number
        taken = going_on(timeline, raster, range(begin, begin + 15), turns=False)
        base = base or taken
        line(f"redraw after a hang of ten minutes, {window_s} s wide", f"{taken:.1f} ms", "to reach: 15 ms, at 5 Hz")
        if number:
            line("  against 60 s", f"x {taken / base:.1f}")


def size() -> None:
    """The most that it ever keeps."""
    tracemalloc.start()
    timeline = Timeline()
    for span in endless(MOST_SINGLE + MOST_OLDER + 1000):
        timeline._close(span)
    line(
        f"memory of {len(timeline.closed)} spans and {len(timeline.older)} older ones",
        f"{tracemalloc.get_traced_memory()[0] / 1e6:.1f} MB",
        "20 MB",
    )
    tracemalloc.stop()


def endless(count: int) -> Iterator[Span]:
    for i in range(count):
        yield Span(LOCKS[i % COUNT], WORKERS[i % COUNT], 1000, "held", 100 + 5 * i, 104.5 + 5 * i, True)


BENCHES = {"add": add, "full": full, "draw": draw, "hang": hang, "size": size}

if __name__ == "__main__":
    main()
