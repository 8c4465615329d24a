"""How long a key takes to the screen: the real application in a pty, with pictures that change five times a second.

    python tests/bench/tui_keys.py [--presses 200]

Each press opens the help or closes it, and its time is taken from the write of the key to the first bytes that show the
new screen. The goal is 100 ms at the 99th percentile, on a machine that has a processor to spare.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import time

from tui_cost import START_UP_S, drain, opened

GOAL_MS = 100.0
SIZES = ((4, 80, 24), (4, 160, 45), (64, 80, 24), (64, 160, 45))
# A key, and what only the screen has that it leads to.
KEYS = ((b"?", b"Keys and signs"), (b"q", b"NAME"))
MOST_S = 5.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--presses", type=int, default=200)
    chosen = options.parse_args()
    for workers, width, height in SIZES:
        times = measured(workers, width, height, chosen.presses)
        p50, p99 = statistics.median(times), sorted(times)[int(0.99 * len(times))]
        size = f"{workers} workers x {workers} locks at {width}x{height}"
        print(
            f"{size:36} {len(times)} keys  median {p50:5.1f} ms  p99 {p99:5.1f} ms (to reach: {GOAL_MS:g})", flush=True
        )


def measured(workers: int, width: int, height: int, presses: int) -> list[float]:
    """Return the time of each press in milliseconds."""
    process, leader = opened(workers, width, height, 0.2)
    try:
        drain(leader, START_UP_S)
        return [press(leader, *KEYS[number % len(KEYS)], number) for number in range(presses)]
    finally:
        process.terminate()
        drain(leader, 0.5)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(leader)


def press(leader: int, key: bytes, shows: bytes, number: int) -> float:
    """Wait for some moment between two pictures, press the key, and wait for what it shows."""
    drain(leader, 0.05 + 0.013 * (number % 17))
    os.write(leader, key)
    began, seen = time.perf_counter(), b""
    while shows not in seen:
        left = MOST_S - (time.perf_counter() - began)
        if left <= 0 or not select.select([leader], [], [], left)[0]:
            raise SystemExit(f"{key!r} has not shown {shows!r} within {MOST_S:g} s; the last bytes: {seen[-500:]!r}")
        seen += os.read(leader, 65536)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
