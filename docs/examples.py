"""Make the examples of docs/findings.md: `python docs/examples.py [CODE …]` runs a program that is sick in that way,
asks the real `semtrace doctor`, and saves what it prints about it in docs/examples/CODE.txt. Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"
SICK = ROOT / "tests" / "cases" / "programs"
FILE_LOCKS = ROOT / "tests" / "programs" / "file_locks.py"
sys.path.insert(0, str(ROOT))

from staging import staged  # noqa: E402

from demo_app.scenarios import SCENARIOS  # noqa: E402

WORKERS = 4
PATIENCE_S = 100.0
START_S = 2.0  # before that, it has not yet a /dev/shm of its own
LAYERS = (
    "mount -t tmpfs none {0} && mkdir {0}/lower {0}/upper {0}/work {0}/merged && "
    "mount -t overlay none -o lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work {0}/merged && "
    "export LOCKS={0}/merged"
)
SMALL = "mount -t tmpfs -o size={size}m none /dev/shm"  # never the machine's


class Scene(NamedTuple):
    """A scenario of the demo, with another --timeout if one is given."""

    scenario: str
    timeout_s: int | None = None


class Program(NamedTuple):
    """A program, in a mount namespace with a /dev/shm of its own if its size is given, in megabytes; `own_layers`: with
    a folder of locks on an overlay, as a container has.
    """

    path: Path
    own_shm: int = 0
    own_layers: bool = False
    arguments: tuple[str, ...] = ()


SOURCES: dict[str, Scene | Program] = {
    "orphaned-lock": Scene("leak"),
    "stuck": Program(SICK / "thread_joins.py"),
    "deadlock": Scene("deadlock"),
    "stopped": Program(SICK / "holder_stopped.py"),
    "worker-died": Program(SICK / "task_exited.py"),
    "unshared-lock": Scene("no-preload"),
    "private-lock": Scene("threading"),
    "inherited-hold": Scene("inherited"),
    "over-release": Scene("overrelease"),
    "timeout-risk": Scene("leak", timeout_s=12),
    "long-hold": Program(EXAMPLES / "programs" / "long_hold.py"),
    "long-wait": Program(SICK / "healthy_manager.py", arguments=("RLock",)),
    "contention": Scene("convoy"),
    "lock-order": Scene("order"),
    "shm-full": Program(SICK / "shm_full.py", own_shm=1),
    "leaked-name": Program(EXAMPLES / "programs" / "leaked_name.py", own_shm=16),
    "stale-lock-file": Program(FILE_LOCKS, arguments=("left_over", "")),
    "inherited-file": Program(FILE_LOCKS, arguments=("inherited", "flock")),
    "shared-file": Program(FILE_LOCKS, arguments=("shared", "")),
    "lost-file-lock": Program(FILE_LOCKS, arguments=("dropped", "4")),
    "fragile-file-lock": Program(FILE_LOCKS, arguments=("twice", "")),
    "local-lock-file": Program(FILE_LOCKS, arguments=("many", "1"), own_layers=True),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("code", nargs="*", default=list(SOURCES))
    for code in options.parse_args().code:
        with tempfile.TemporaryDirectory(prefix="semtrace-examples-") as folder, started(SOURCES[code], folder) as pid:
            found = ask(pid, code).replace(folder, "/run/locks")
        (EXAMPLES / f"{code}.txt").write_text(found)
        print(found, flush=True)


@contextmanager
def started(source: Scene | Program, folder: str) -> Iterator[int]:
    if isinstance(source, Scene):
        scenario = SCENARIOS[source.scenario]
        if source.timeout_s is not None:
            scenario = replace(scenario, timeout_s=source.timeout_s)
        with staged(scenario, WORKERS) as pid:
            yield pid
        return
    command = [sys.executable, str(source.path), *source.arguments]
    if source.own_shm:
        command = ["unshare", "-m", "sh", "-c", f"{SMALL.format(size=source.own_shm)} && exec {' '.join(command)}"]
    if source.own_layers:
        command = ["unshare", "-m", "sh", "-c", f'{LAYERS.format(folder)} && exec "$@"', "sh", *command]
    program = subprocess.Popen(
        command,
        env={**os.environ, "LOCKS": folder},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(START_S)
        yield program.pid
    finally:
        subprocess.run(["kill", "-KILL", "--", f"-{program.pid}"], check=False)
        program.wait()


def ask(pid: int, code: str) -> str:
    """Ask until the doctor finds it, and return that part of the answer."""
    deadline = time.monotonic() + PATIENCE_S
    command = [sys.executable, "-m", "semtrace", "doctor", "--for", "3", "--long", "2", str(pid)]
    while time.monotonic() < deadline:
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for part in printed.split("\n\n"):
            if f"[{code}]" in part:
                return part.strip("\n").replace(str(ROOT), "/srv") + "\n"
    raise SystemExit(f"the doctor finds no {code}; last it printed:\n{printed}")


if __name__ == "__main__":
    main()
