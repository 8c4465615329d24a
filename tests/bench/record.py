"""What recording costs, and whether anything is lost: prints each figure beside the limit of the project.

    python tests/bench/record.py [NAME …]        names: idle codec events burst sustained seek

CPU time is user and system time, of the recorder and its children.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "tests" / "bench")]

from events import telling  # noqa: E402
from support import start_gunicorn  # noqa: E402
from support.recordings import HEAD, TYPES, frames, moving  # noqa: E402

from semtrace.model import Snapshot  # noqa: E402
from semtrace.record.chunks import ChunkKind, encode  # noqa: E402
from semtrace.record.eventlog import event_chunks, events_of  # noqa: E402
from semtrace.record.groups import GroupReader, GroupWriter  # noqa: E402
from semtrace.record.head import encode_head  # noqa: E402
from semtrace.record.reader import Recording  # noqa: E402
from semtrace.wire.event import EVENT_SIZE  # noqa: E402
from semtrace.wire.place import SHM_VARIABLE  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


def line(what: str, measured: str, limit: str = "") -> None:
    print(f"{what:52} {measured:>40}  {limit}", flush=True)


def idle() -> None:
    """A server of four workers at five snapshots a second, untraced."""
    seconds = 20.0
    with start_gunicorn("seed:app", "-w", "4", "--preload") as server, tempfile.TemporaryDirectory() as folder:
        server.wait_workers(4)
        path = Path(folder, "x.semrec")
        with recorder(server.pid, path):
            time.sleep(3)
            cpu, size = cpu_of_children(), path.stat().st_size
            time.sleep(seconds)
            used, grown = cpu_of_children() - cpu, path.stat().st_size - size
    line("record 4 workers at 5 Hz, untraced", f"{100 * used / seconds:.1f} % of a core", "to reach: 1 %")
    line("", f"{grown / seconds * 86400 / 1e6:.0f} MB a day", "to reach: 50 MB")


def codec() -> None:
    writer, reader, several = GroupWriter(TYPES), GroupReader(TYPES.reader(TYPES.description)), frames(moving(500))
    began = time.process_time()
    chunks = [writer.chunk(each) for each in several]
    written = time.process_time() - began
    began = time.process_time()
    assert [reader.frame(each) for each in chunks] == several
    read = time.process_time() - began
    line("write one snapshot", f"{written / 500 * 1e6:.0f} µs, {sum(each.size for each in chunks) / 500:.0f} bytes")
    line("read one snapshot", f"{read / 500 * 1e6:.0f} µs")


def events() -> None:
    """100,000 events a second into a recorder, for ten seconds."""
    with fake_server() as base, telling(100_000, 10.0, base) as writer, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.semrec")
        with recorder(writer.pid, path, "--also-events"):
            while not any(Path(base).glob("*/*/*.fifo")):
                time.sleep(0.01)
            time.sleep(0.5)
            cpu = cpu_of_children()
            told = said(writer)
            used = cpu_of_children() - cpu
            time.sleep(0.5)
        count, size = events_in(path)
    share = 100 * used / told["seconds"]
    line("100,000 events/s into a recorder", f"{share:.0f} % of a core", "to reach: 15 %")
    line("", f"{size / max(count, 1):.1f} bytes an event", "to reach: 12")
    line("", f"{told['told'] - count:,} of {told['told']:,} lost", "to reach: none")


def burst() -> None:
    both(300_000, 10.0)


def sustained() -> None:
    both(100_000, 60.0)


def both(rate: int, seconds: float) -> None:
    """Into a recorder and `events --json` to a file."""
    with fake_server() as base, telling(rate, seconds, base, 2) as writer, tempfile.TemporaryDirectory() as folder:
        path, lines = Path(folder, "x.semrec"), Path(folder, "lines")
        with lines.open("w") as out, recorder(writer.pid, path, "--also-events"):
            command = [sys.executable, "-m", "semtrace", "events", str(writer.pid), "--json"]
            viewer = subprocess.Popen(command, stdout=out, env=ENVIRONMENT)
            told = said(writer)
            viewer.wait()
        count, _ = events_in(path)
        with lines.open() as found:
            printed = sum(1 for each in found if '"lost"' not in each)
    name = f"{told['told'] / told['seconds']:,.0f} events/s for {seconds:.0f} s"
    line(f"{name} into a recorder", f"{told['told'] - count:,} of {told['told']:,} lost", "to reach: none")
    line(f"{name} into events --json", f"{told['told'] - printed:,} of {told['told']:,} lost", "to reach: none")


def seek() -> None:
    """A recording of a gigabyte: the same groups again and again, at later times."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder, "x.semrec")
        groups = 20_000
        writer = GroupWriter(TYPES)
        with path.open("wb") as stream:
            stream.write(encode(encode_head(HEAD, TYPES)))
            padding = next(event_chunks(0, os.urandom(1 << 18), 1))
            for number in range(groups):
                plain = moving(1, start_s=100.0 + 10.0 * number)[0]
                stream.write(encode(writer.chunk(frames([_later(plain, 10.0 * number)])[0])))
                if number % 5 == 0:
                    stream.write(encode(padding))
        size = path.stat().st_size
        began = time.perf_counter()
        recording = Recording(path)
        first, last = recording.span()
        recording.at(last)
        opened = time.perf_counter() - began
        began = time.perf_counter()
        for number in range(10):
            recording.at(first + (last - first) * (number * 37 % 100) / 100)
        sought = (time.perf_counter() - began) / 10
        recording.close()
    line(f"open {size / 1e9:.2f} GB, first picture", f"{opened:.3f} s", "to reach: 1 s")
    line("seek anywhere", f"{sought:.3f} s", "to reach: 0.2 s")


def _later(plain: Snapshot, seconds: float) -> Snapshot:
    from dataclasses import replace

    return replace(plain, taken_at=plain.taken_at + seconds)


# -- helpers


@contextmanager
def recorder(pid: int, path: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "semtrace", "record", str(pid), "-o", str(path), *arguments]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as popen:
        RECORDERS.append(popen.pid)
        try:
            yield popen
        finally:
            popen.send_signal(signal.SIGTERM)
            popen.wait(60)
            RECORDERS.remove(popen.pid)


RECORDERS: list[int] = []


def cpu_of_children() -> float:
    """User and system time of the recorders and their children, in seconds."""
    ticks = 0
    for pid in RECORDERS:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def fake_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
        ENVIRONMENT[SHM_VARIABLE] = base
        try:
            yield base
        finally:
            del ENVIRONMENT[SHM_VARIABLE]


def said(writer: subprocess.Popen[str]) -> dict[str, float]:
    assert writer.stdout is not None
    found: dict[str, float] = json.loads(writer.stdout.readline())
    return found


def events_in(path: Path) -> tuple[int, int]:
    recording, count, size = Recording(path), 0, 0
    for chunk in recording.chunks():
        if chunk.kind == ChunkKind.EVENTS:
            count += len(events_of(chunk)[1]) // EVENT_SIZE
            size += chunk.size
    recording.close()
    return count, size


BENCHES = {each.__name__: each for each in (idle, codec, events, burst, sustained, seek)}

if __name__ == "__main__":
    main()
