"""What looking costs: prints each figure beside the limit that the project set itself.

    python tests/bench/observe.py [NAME …]        names: start dump refresh growth many files search hot load

Times are CPU time where it says CPU, else wall time; ratios are of measurements taken by turns in this one run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support import PROGRAMS, start_gunicorn  # noqa: E402

from semtrace.linux import pages  # noqa: E402
from semtrace.linux.maps import read_mappings  # noqa: E402
from semtrace.linux.memory import Memory  # noqa: E402
from semtrace.observe.observer import Observer, settle  # noqa: E402
from semtrace.servers.discovery import server_of  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHES)
    for name in chosen:
        BENCHES[name]()


def line(what: str, measured: str, limit: str = "") -> None:
    print(f"{what:58} {measured:>22}  {limit}", flush=True)


def start() -> None:
    """What every command costs before it does anything, and what `doctor` does, next to an empty Python."""
    programs = {"nothing": "pass", "the command line": "import semtrace.cli"}
    programs["doctor"] = "import semtrace.cli, semtrace.commands.doctor, semtrace.reports.diagnosis"
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(9):
        for name, program in programs.items():
            took[name].append(timed([sys.executable, "-c", program]))
    empty = statistics.median(took["nothing"])
    for name, seconds in took.items():
        line(
            f"start with {name}",
            f"{statistics.median(seconds) * 1e3:.0f} ms",
            f"x {statistics.median(seconds) / empty:.1f}",
        )


def dump() -> None:
    """The whole process of `semtrace dump`, and how it compares to one py-spy dump for each process."""
    with start_gunicorn("seed:app", "-w", "4", "--preload") as server:
        pids = [server.pid, *server.wait_workers(4)]
        ours, theirs = [], []
        for _ in range(7):
            ours.append(timed([sys.executable, "-m", "semtrace", "dump", str(server.pid)]))
            spy = Path(sys.executable).parent / "py-spy"
            theirs.append(sum(timed([str(spy), "dump", "--nonblocking", "--pid", str(pid)]) for pid in pids))
        line("dump of 5 processes, 1 lock", f"{statistics.median(ours):.3f} s", "to reach: 0.4 s")
        line("  against five py-spy dumps", f"x {statistics.median(ours) / statistics.median(theirs):.1f}")


def timed(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def refresh() -> None:
    with started("many.py", "4", "1") as pid:
        line("one refresh, 5 processes x 1 lock (CPU)", f"{refresh_ms(pid):.2f} ms", "to reach: 3 ms")
    with started("many.py", "255", "16") as pid:
        line("one refresh, 256 processes x 16 locks (CPU)", f"{refresh_ms(pid):.1f} ms", "to reach: 60 ms")


def growth() -> None:
    """Twice the processes, or twice the locks, should cost twice as much at most."""
    sizes = [(32, 4), (64, 4), (128, 4), (128, 8), (128, 16)]
    for processes, locks in sizes:
        with started("many.py", str(processes - 1), str(locks)) as pid:
            line(f"  refresh, {processes} processes x {locks} locks (CPU)", f"{refresh_ms(pid):.2f} ms")


def many(sizes: tuple[int, int] = (500, 5000)) -> None:
    """Ten times the locks should cost ten times as much."""
    first, again = [], []
    for locks in sizes:
        with started("many.py", "4", str(locks)) as pid:
            observer = Observer(server_of(pid))
            begun = time.thread_time()
            settle(observer)
            first.append((time.thread_time() - begun) / locks * 1e6)
            observer.close()
            again.append(refresh_ms(pid, 5, 0) / locks * 1e3)
    for what, each in (("picture", first), ("refresh", again)):
        line(f"one {what} of {sizes[1]} locks, for each lock (CPU)", f"{each[1]:.0f} µs", f"x {each[1] / each[0]:.2f}")


def refresh_ms(pid: int, rounds: int = 30, unmeasured: int = 30) -> float:
    """At five a second, so that what is done once a second is in it. What is done once for each process, as to read the
    stacks of those that sleep, is over by then.
    """
    observer = Observer(server_of(pid))
    settle(observer)
    for _ in range(unmeasured):
        time.sleep(0.2)
        observer.snapshot()
    costs = []
    for _ in range(rounds):
        time.sleep(0.2)
        begun = time.thread_time()
        observer.snapshot()
        costs.append((time.thread_time() - begun) * 1e3)
    observer.close()
    return statistics.mean(costs)


def files(many: int = 1000) -> None:
    """A process and four children with so many open files, on a machine with so many file locks of others."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "LOCKS": folder}
        few, lots = [], []
        with started("file_locks.py", "many", "1", env=env) as pid:
            few.append(refresh_ms(pid))
        with locked_files(Path(folder), many), started("file_locks.py", "many", str(many), env=env) as pid:
            lots.append(refresh_ms(pid))
    more = statistics.mean(lots) - statistics.mean(few)
    line(f"refresh with {many} open files and {many} locks (CPU)", f"{more:+.2f} ms", "to reach: 1 ms more")


@contextlib.contextmanager
def locked_files(folder: Path, many: int) -> Iterator[None]:
    """Lock so many files in a process that no server has."""
    program = (
        "import fcntl, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 14, 1 << 14));"
        "kept = [open(f'{sys.argv[1]}/{n}', 'w') for n in range(int(sys.argv[2]))];"
        "[fcntl.flock(f, fcntl.LOCK_EX) for f in kept]; print(flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, str(folder), str(many)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        yield
        other.communicate(b"")


def search() -> None:
    """Through a gigabyte of a process that is full of numbers, then the whole way to a lock in it."""
    program = (
        "import array, multiprocessing, os, signal; ballast = [array.array('Q', range(1 << 20)) for _ in range(128)];"
        "lock = multiprocessing.Lock(); print(os.getpid(), flush=True); signal.pause()"
    )
    with started("-c", program) as pid, Memory(pid) as memory:
        begun = time.perf_counter()
        for mapping in read_mappings(pid) or ():
            if mapping.holds_objects:
                for start, end in pages.touched(pid, mapping.start, mapping.end):
                    any(memory.search(start, end, b"\xde\xad\xbe\xef\x7f"))
        seconds = time.perf_counter() - begun
        rate = memory.bytes_read / seconds / 1e9
        line(f"search of {memory.bytes_read / 1e9:.2f} GB", f"{rate:.2f} GB/s", "to reach: 0.9 GB/s")
        line("dump of that process", f"{timed([sys.executable, '-m', 'semtrace', 'dump', str(pid)]):.2f} s")


def hot(samples: int = 10_000) -> None:
    """A lock taken 100,000 times a second by four workers, looked at ten thousand times."""
    with started("hot.py") as pid:
        observer = Observer(server_of(pid))
        workers = {p.pid for p in settle(observer).processes} - {pid}
        states: Counter[str] = Counter()
        strangers = 0
        for _ in range(samples):
            for lock in observer.snapshot().locks:
                states[lock.state] += 1
                strangers += sum(holder.pid not in workers for holder in lock.holders)
        observer.close()
    line(f"{samples} looks at a hot lock: wrong orphans", str(states["orphaned"]), "to reach: 0")
    line("  holders that are no worker", str(strangers), "to reach: 0")
    line("  states seen", ", ".join(f"{state} {count}" for state, count in states.most_common()))


def load(seconds: float = 3.0, rounds: int = 4) -> None:
    """Requests a second of a gunicorn that is looked at ten times a second, by turns with one that is left alone."""
    with start_gunicorn("seed:app", "-w", "4", "--preload") as server:
        server.wait_workers(4)
        alone, watched = [], []
        for _ in range(rounds):
            alone.append(requests_per_s(server.port, seconds))
            with watching(server.pid, 0.1):
                watched.append(requests_per_s(server.port, seconds))
        ratio = statistics.median(watched) / statistics.median(alone)
        line(
            f"requests/s watched at 10 Hz: {statistics.median(watched):.0f} of {statistics.median(alone):.0f}",
            f"ratio {ratio:.3f}",
            "to reach: 0.95",
        )


def requests_per_s(port: int, seconds: float) -> float:
    done = 0
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(request)
            while connection.recv(4096):
                pass
        done += 1
    return done / seconds


@contextlib.contextmanager
def watching(pid: int, interval_s: float) -> Iterator[None]:
    """In a process of its own, as a viewer is."""
    command = [sys.executable, "-m", "semtrace", "dump", "--json", "--watch", str(interval_s), str(pid)]
    viewer = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert viewer.stdout is not None
    viewer.stdout.readline()
    drain = threading.Thread(target=lambda: list(viewer.stdout or ()), daemon=True)
    drain.start()
    try:
        yield
    finally:
        viewer.kill()
        viewer.wait()
        drain.join()
        viewer.stdout.close()


@contextlib.contextmanager
def started(program: str, *arguments: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """A target that prints its pid, or that of a child, when it is ready."""
    path = [program] if program == "-c" else [str(PROGRAMS / program)]
    argv = [sys.executable, *path, *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, env=env)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().split()[0])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


BENCHES: dict[str, Callable[[], None]] = {
    "start": start,
    "dump": dump,
    "refresh": refresh,
    "growth": growth,
    "many": many,
    "files": files,
    "search": search,
    "hot": hot,
    "load": load,
}

if __name__ == "__main__":
    main()
