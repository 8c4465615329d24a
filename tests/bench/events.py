"""What following costs: a process that tells of so many acts a second, and viewers that read and fold them.

    python tests/bench/events.py [fold] [follow] [tui] [soak]

fold: decoding and folding alone. follow: through a real pipe, in a thread as the live view has it; what did not fit
the pipe is lost. tui: the real live view in a pty with its event log open, and how long a key takes to show.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support.tracewriter import FakeServer, record  # noqa: E402

from semtrace.linux.maps import SemaphoreMaps  # noqa: E402
from semtrace.model import ProcessId, SemId  # noqa: E402
from semtrace.tracing.events import Decoder  # noqa: E402
from semtrace.tracing.follower import Follower  # noqa: E402
from semtrace.tracing.reader import this_viewer  # noqa: E402
from semtrace.tracing.state import State, fold  # noqa: E402
from semtrace.wire.event import EVENT_SIZE, EventType, encode_event  # noqa: E402
from semtrace.wire.offsets import site_id  # noqa: E402
from semtrace.wire.place import SHM_VARIABLE, shm  # noqa: E402

PIECE = EVENT_SIZE * 60  # below PIPE_BUF: written whole or not at all
TICK_S = 0.002
SECONDS = 5.0
RATES = (100_000, 300_000, 600_000)


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        write(int(sys.argv[2]), float(sys.argv[3]), int((*sys.argv, "1")[4]))
        return
    for name in sys.argv[1:] or ["fold", "follow", "tui"]:
        {"fold": bench_fold, "follow": bench_follow, "tui": bench_tui, "soak": bench_soak}[name]()


def line(what: str, measured: str, limit: str = "") -> None:
    print(f"{what:58} {measured:>34}  {limit}", flush=True)


# ---- who tells


def acts(process: ProcessId, lock: SemId, count: int) -> bytearray:
    """Wait, acquired, released, again and again, of different durations and from three lines."""
    data = bytearray()
    sites = [site_id("/app/a.py", number) for number in (7, 8, 9)]
    for number in range(count // 3):
        site, wait, hold = sites[number % 3], 500 + number * 7919 % 90_000, 1000 + number * 104729 % 3_000_000
        for type_, value in ((EventType.WAIT, None), (EventType.ACQUIRED, wait), (EventType.RELEASED, hold)):
            data += encode_event(record(type_, 1, 1, value, process, lock, site=site))
    return data


class Teller:
    """Writes to every viewer's FIFO as a traced process does: whole records, never waiting."""

    def __init__(self, lock: SemId) -> None:
        me = this_viewer()
        self.told = self.lost = 0
        self.left = False
        self._server = FakeServer(Path(shm()), me)
        self._data = acts(me, lock, PIECE // EVENT_SIZE * 3)[:PIECE]
        self._fds: dict[str, int] = {}
        self._sequence = 0

    def has_viewers(self, count: int = 1) -> bool:
        for path in self._server.fifos:
            if path.name not in self._fds:
                self._fds[path.name] = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        return len(self._fds) >= count

    def tell(self) -> None:
        at_ns = time.monotonic_ns()
        for at in range(0, PIECE, EVENT_SIZE):
            self._sequence += 1
            struct.pack_into("<QQ", self._data, at + 40, self._sequence, at_ns + at)
        self.told += PIECE // EVENT_SIZE
        for fd in self._fds.values():
            try:
                os.write(fd, self._data)
            except BlockingIOError:
                self.lost += PIECE // EVENT_SIZE
            except BrokenPipeError:
                self.left = True


def write(rate: int, seconds: float, viewers: int = 1) -> None:
    """Tells so many viewers of `rate` acts a second of a lock of its own; prints how many, and how many did not fit."""
    lock = multiprocessing.Lock()
    (mapped,) = SemaphoreMaps(os.getpid()).semaphores()
    teller = Teller(mapped.id)
    print("ready", flush=True)
    while not teller.has_viewers(viewers):
        time.sleep(0.01)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds and not teller.left:
        while teller.told < passed * rate and not teller.left:
            teller.tell()
        time.sleep(TICK_S)
    print(json.dumps({"told": teller.told, "lost": teller.lost, "seconds": passed}), flush=True)
    del lock


@contextmanager
def telling(rate: int, seconds: float, base: str, viewers: int = 1) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, SHM_VARIABLE: base}
    command = [sys.executable, __file__, "write", str(rate), str(seconds), str(viewers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        try:
            yield writer
        finally:
            writer.kill()


# ---- who reads


def bench_fold() -> None:
    me = this_viewer()
    data = bytes(acts(me, SemId(0, 27, 9), 300_000))
    pieces = [data[at : at + 6000 * 64] for at in range(0, len(data), 6000 * 64)]
    decoder, began = Decoder(), time.process_time()
    events = [decoder.decode(piece) for piece in pieces]
    decoded = time.process_time() - began
    began, state = time.process_time(), State()
    for batch in events:
        state = fold(state, batch)
    folded = time.process_time() - began
    line("decode", f"{decoded / 300_000 * 1e6:.2f} µs a record", "to reach: 1")
    line("fold", f"{folded / 300_000 * 1e6:.2f} µs a record")
    line("both, on one core", f"{300_000 / (decoded + folded):,.0f} records/s", "to reach: 300,000")


def bench_follow() -> None:
    for rate in RATES:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
            os.environ[SHM_VARIABLE] = base
            with telling(rate, SECONDS, base) as writer:
                process = ProcessId(writer.pid, _ticks(writer.pid))
                follower = Follower()
                follower.state([process])
                cpu, began = time.process_time(), time.monotonic()
                while (state := follower.state([process])) is None or not state.received:
                    time.sleep(0.01)
                while time.monotonic() - began < SECONDS + 0.5:
                    time.sleep(0.2)
                    state = follower.state([process])
                used = time.process_time() - cpu
                assert writer.stdout is not None
                said = json.loads(writer.stdout.readline())
                state = follower.state([process])
                follower.close()
                assert state is not None
                share = f"{100 * used / said['seconds']:.0f} % of a core"
                line(
                    f"follow {said['told'] / said['seconds']:,.0f}/s for {said['seconds']:.0f} s",
                    f"{share}, {said['lost']:,} of {said['told']:,} lost",
                    "to reach: none lost at 300,000" if rate == 300_000 else "",
                )


def bench_tui() -> None:
    for rate in (60, *RATES[:2]):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as base, telling(rate, 60, base) as writer:
            cpu, keys, screen = _live(writer.pid, base)
            keys.sort()
            shares = [f"p{share} {1e3 * keys[len(keys) * share // 100]:.0f}" for share in (50, 95, 99)]
            latency = f"key {' '.join(shares)} ms"
            line(f"live view with its event log, {rate:,}/s", f"{cpu:.0f} % of a core, {latency}", "to reach: 100 ms")
            if b" lost" in screen:
                line("", "and some were LOST")


def bench_soak(minutes: int = 10) -> None:
    """Ten minutes of 100,000 events a second under the live view, its memory at each minute."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as base,
        telling(100_000, 60 * minutes + 20, base) as writer,
        _viewer(writer.pid, base) as (viewer, leader),
    ):
        _until(leader, b"Locks", 10)
        os.write(leader, b"t")
        for minute in range(1, minutes + 1):
            _until(leader, b"\0never", 60)
            resident = Path(f"/proc/{viewer.pid}/statm").read_text().split()[1]
            line(f"live view at 100,000/s, minute {minute}", f"{int(resident) * 4096 >> 20} MB resident")


def _live(pid: int, base: str, presses: int = 200) -> tuple[float, list[float], bytes]:
    """CPU, how long `?` took to show its page each time, and all that was drawn."""
    drawn = b""
    with _viewer(pid, base) as (viewer, leader):
        drawn += _until(leader, b"Locks", 10)[0]
        os.write(leader, b"e")
        drawn += _until(leader, b"Events", 10)[0]
        drawn += _until(leader, b"\0never", 2)[0]
        cpu, began = _cpu_s(viewer.pid), time.monotonic()
        keys = []
        for _ in range(presses):
            os.write(leader, b"?")
            seen, took = _until(leader, b"Keys and signs", 5)
            keys.append(took)
            os.write(leader, b"e")
            drawn += seen + _until(leader, b"WAITED", 5)[0]
            drawn += _until(leader, b"\0never", 0.02)[0]
        used = 100 * (_cpu_s(viewer.pid) - cpu) / (time.monotonic() - began)
        return used, keys, drawn


@contextmanager
def _viewer(pid: int, base: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The live view in a pty of 160x45, and the end of it that a terminal reads."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 160, 0, 0))
    environment = {**os.environ, SHM_VARIABLE: base, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "semtrace", "attach", str(pid)]
    viewer = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    try:
        yield viewer, leader
    finally:
        viewer.terminate()
        _until(leader, b"\0never", 0.5)
        viewer.wait(5)
        os.close(leader)


def _until(leader: int, wanted: bytes, seconds: float) -> tuple[bytes, float]:
    """Reads as a terminal would until that is there; and how long it took."""
    began = time.monotonic()
    seen = b""
    while wanted not in seen and (left := began + seconds - time.monotonic()) > 0:
        if select.select([leader], [], [], left)[0]:
            try:
                seen += os.read(leader, 1 << 16)
            except OSError:  # EIO: the other side is closed
                break
    return seen, time.monotonic() - began


def _ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
