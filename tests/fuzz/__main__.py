"""Run the fuzzers by turns for so many seconds, and say which seed failed."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.decoders import FUZZERS
from fuzz.running import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    parser.add_argument("--only", choices=sorted(FUZZERS))
    options = parser.parse_args()
    chosen = {options.only: FUZZERS[options.only]} if options.only else FUZZERS
    failed = 0
    for done in run(chosen, options.seconds, options.seed):
        print(f"{done.name:24} {done.calls:8} calls, {'well' if done.error is None else f'seed {done.seed} failed'}")
        if done.error is not None:
            failed += 1
            traceback.print_exception(done.error)
    return 1 if failed else 0


sys.exit(main())
