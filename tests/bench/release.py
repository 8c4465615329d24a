"""Releases beside workers that take the lock all the time and are killed inside: how many, and how often two got in.

    python tests/bench/release.py [RELEASES]      default 1000; needs root; some minutes

Only those count that were done; many times more are refused. Exits with 1 if ever two were inside.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support.racing import race  # noqa: E402

SERVERS, PATIENCE_S = 4, 3600.0


def main() -> int:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = random.randrange(1 << 30)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="semtrace-race-") as directory:
        raced = race(Path(directory), SERVERS, seed, lambda so_far: so_far["released"] >= wanted, PATIENCE_S)
    print(f"seed {seed}, {time.monotonic() - began:.0f} s: {dict(raced.outcomes)}, let in {sum(raced.came_in)}")
    print(f"two inside at once: {sum(raced.wrong)} times")
    return 1 if any(raced.wrong) or not set(raced.outcomes) <= {"released", "refused", "killed"} else 0


if __name__ == "__main__":
    sys.exit(main())
