"""Run the chaos test: `python -m tests.chaos --minutes 60`, from the project's root."""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos import episode, report
from tests.chaos.families import BY_NAME, FAMILIES, HOST, Family
from tests.chaos.tally import Tally

SHORTEST_S, LONGEST_S = 6.0, 20.0
ENDING_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    if options.result:
        return run_one(options)
    seconds = options.minutes * 60 if options.minutes else options.seconds
    print(f"seed {options.seed}", flush=True)
    total = Tally()
    try:
        run_all(options, seconds, total)
    except KeyboardInterrupt:
        print("interrupted: what follows is from before", file=sys.stderr)
    print(report.text(total))
    return int(total.failed)


def _end(number: int, frame: object) -> None:
    """End once: who cleans up is not to be interrupted, and an interrupted parent ends its children too."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(143)


def run_one(options: argparse.Namespace) -> int:
    """Run an episode in this process, and write its findings to a file."""
    setting = episode.Setting(BY_NAME[options.only[0]], options.seed, options.seconds, options.python[0])
    try:
        episode.run(setting).write(Path(options.result))
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    made.add_argument("--minutes", type=float, help="for how long")
    made.add_argument("--seconds", type=float, default=60.0, help="for how long, if not in minutes (default 60)")
    made.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    made.add_argument(
        "--only", action="append", choices=sorted(BY_NAME), metavar="KIND", help="may be repeated: %(choices)s"
    )
    made.add_argument("--python", action="append", metavar="PATH", help="interpreters of the programs, may be repeated")
    made.add_argument("--releases", action="store_true", help="only races of releases with kills")
    made.add_argument("--jobs", type=int, default=1, help="so many programs at once")
    made.add_argument("--result", help=argparse.SUPPRESS)
    return made


def chosen(options: argparse.Namespace) -> list[tuple[Family, str]]:
    """Return each family with each interpreter that it runs on."""
    names = options.only or (["races"] if options.releases else None)
    families = [BY_NAME[name] for name in names] if names else list(FAMILIES)
    pythons = options.python or [HOST]
    return [
        (family, python)
        for family in families
        for python in (pythons if not family.host else [HOST])
        if family.runs_here
    ]


def run_all(options: argparse.Namespace, seconds: float, total: Tally) -> None:
    """Run episode after episode in processes of their own, `--jobs` at once, the families in an order by the seed."""
    numbers = random.Random(options.seed)
    all_ = chosen(options)
    each_s = (
        seconds
        if len(all_) == 1 and seconds <= 60
        else min(max(seconds * options.jobs / len(all_), SHORTEST_S), LONGEST_S)
    )
    ends_s = time.monotonic() + seconds
    running: list[_Job] = []
    order = _order(all_, numbers)
    with tempfile.TemporaryDirectory(prefix="semtrace-chaos-") as directory:
        try:
            while time.monotonic() < ends_s or running:
                if len(running) < options.jobs and time.monotonic() < ends_s:
                    family, python = next(order)
                    left_s = max(min(each_s, ends_s - time.monotonic()), 1.0)
                    running.append(_Job(family, python, numbers.randrange(1 << 30), left_s, Path(directory)))
                running = [job for job in running if not job.is_over(total)]
                time.sleep(0.02)
        finally:
            for job in running:
                job.end()


def _order(all_: list[tuple[Family, str]], numbers: random.Random) -> Iterator[tuple[Family, str]]:
    while True:
        yield from numbers.sample(all_, len(all_))


class _Job:
    """An episode in a process of its own."""

    def __init__(self, family: Family, python: str, seed: int, seconds: float, directory: Path) -> None:
        self._name = family.name
        self._result = directory / str(seed)
        self._late_s = time.monotonic() + seconds + ENDING_S
        command = [sys.executable, "-m", "tests.chaos", "--only", family.name, "--seed", str(seed)]
        command += ["--seconds", f"{seconds:.3f}", "--python", python, "--result", str(self._result)]
        self._popen = subprocess.Popen(command)

    def is_over(self, total: Tally) -> bool:
        """Add its findings once it is over."""
        if self._popen.poll() is None:
            if time.monotonic() > self._late_s:
                total.troubles[f"{self._name}: did not end"] += 1
                self.end()
                return True
            return False
        if self._popen.returncode:
            total.troubles[f"{self._name}: ended with {self._popen.returncode}"] += 1
        with contextlib.suppress(FileNotFoundError):
            total.add(Tally.read(self._result))
            self._result.unlink()
        return True

    def end(self) -> None:
        """End it, and leave it time to clean up after itself."""
        self._popen.terminate()
        try:
            self._popen.wait(30)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


if __name__ == "__main__":
    sys.exit(main())
