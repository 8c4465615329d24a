"""What the live view costs: the real application in a pty, a source whose pictures change at every tick.

    python tests/bench/tui_cost.py [--seconds 6]

Prints, for each size, the CPU time of the whole process (reading thread, drawing, writing) as a share of one core after
start-up, and how much it writes. The pictures are made beforehand, so that the source itself costs nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {(4, 4, 80, 24): 3.0, (4, 4, 160, 45): 3.0, (64, 64, 80, 24): 8.0, (64, 64, 160, 45): 8.0}
SCREENS = {"overview": b"", "timeline": b"t", "locks' timeline": b"tl", "blocking tree": b"w", "details": b"\r"}
START_UP_S = 3.0
TICKS = os.sysconf("SC_CLK_TCK")

TARGET = """
import itertools, sys
from support.scenes import Ticking, crowd, server
from dataclasses import replace
from semtrace.settings import Settings
from semtrace.tui.app import run
pictures = [crowd({workers}, tick) for tick in range(200)]
def picture(tick):
    now = 192 + tick * {interval}
    return replace(pictures[tick % len(pictures)], monotonic_s=now)
run(lambda: [server()], lambda _: Ticking(picture), settings=Settings(interval={interval}))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=6.0)
    options.add_argument("--interval", type=float, default=0.2)
    chosen = options.parse_args()
    for name, key in SCREENS.items():
        for (workers, locks, width, height), target in TARGETS.items():
            cpu, written = measure(workers, width, height, chosen.interval, chosen.seconds, key)
            size = f"{name}, {workers} workers x {locks} locks at {width}x{height}"
            rate = f"{1 / chosen.interval:g} Hz"
            print(f"{size:48} {rate}  {cpu:5.1f} % of a core (to reach: {target:g})  {written:7.0f} B/s", flush=True)


def measure(
    workers: int, width: int, height: int, interval_s: float, seconds: float, key: bytes
) -> tuple[float, float]:
    process, leader = opened(workers, width, height, interval_s)
    try:
        drain(leader, START_UP_S)
        os.write(leader, key)
        drain(leader, 1.0)
        before, since = cpu_s(process.pid), time.monotonic()
        written = drain(leader, seconds)
        passed = time.monotonic() - since
        return 100 * (cpu_s(process.pid) - before) / passed, written / passed
    finally:
        process.terminate()
        drain(leader, 0.5)
        process.wait(5)
        os.close(leader)


def opened(workers: int, width: int, height: int, interval_s: float) -> tuple[subprocess.Popen[bytes], int]:
    """Start the live view in a terminal of this size; return it with the terminal's other end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "TERM": "xterm-256color"}
    program = TARGET.format(workers=workers, interval=interval_s)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    return process, leader


def drain(leader: int, seconds: float) -> int:
    """Reads as a terminal would, and says how much."""
    until = time.monotonic() + seconds
    read = 0
    while (left := until - time.monotonic()) > 0:
        if select.select([leader], [], [], left)[0]:
            try:
                read += len(os.read(leader, 65536))
            except OSError:  # EIO: the other side is closed
                break
    return read


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
