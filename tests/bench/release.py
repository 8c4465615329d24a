"""Releases beside workers that take the lock all the time and are killed inside: how many, and how often two got in.

    python tests/bench/release.py [RELEASES [MINUTES]]      default 1000 and 60; needs root

Only those count that were done; several times more are refused. It says each minute how far it is. It ends early after
so many minutes, and exits with 1 if ever two were inside.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support.racing import race  # noqa: E402

SERVERS, MINUTES, EVERY_S = 4, 60.0, 60.0
SLACK_S = 600.0  # more than the last releases need


def main() -> int:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    most_s = 60 * (float(sys.argv[2]) if len(sys.argv) > 2 else MINUTES)
    seed = random.randrange(1 << 30)
    began_s = shown_s = time.monotonic()

    def over(so_far: Counter[str]) -> bool:
        nonlocal shown_s
        now_s = time.monotonic()
        if now_s >= shown_s + EVERY_S:
            shown_s = now_s
            print(f"{now_s - began_s:.0f} s: {dict(so_far)}", flush=True)
        return so_far["released"] >= wanted or now_s >= began_s + most_s

    with tempfile.TemporaryDirectory(prefix="semtrace-race-") as directory:
        raced = race(Path(directory), SERVERS, seed, over, most_s + SLACK_S)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    each_s = (used.ru_utime + used.ru_stime) / max(raced.outcomes["released"], 1)
    print(f"seed {seed}, {time.monotonic() - began_s:.0f} s: {dict(raced.outcomes)}, let in {sum(raced.came_in)}")
    print(f"{each_s:.2f} s of a processor for each release, with those that were refused")
    print(f"two inside at once: {sum(raced.wrong)} times")
    return 1 if any(raced.wrong) or not set(raced.outcomes) <= {"released", "refused", "killed"} else 0


if __name__ == "__main__":
    sys.exit(main())
