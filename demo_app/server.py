"""Start gunicorn for a scenario, and make sure that it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo_app.scenarios import Scenario

CLONE = Path(__file__).resolve().parent.parent
START_S = 60.0
END_S = 5.0
LOG_LINES_SHOWN = 20


class DemoError(Exception):
    """The story cannot be told; the message says why."""


@dataclass(frozen=True)
class Server:
    pid: int
    port: int


@contextmanager
def serve(scenario: Scenario, workers: int, folder: Path) -> Iterator[Server]:
    """A gunicorn whose workers are all ready, in a session of its own: no key or hang-up of the terminal reaches it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(scenario, workers, folder),
            cwd=CLONE,
            env=environment(scenario, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _wait_until_ready(process, workers, folder)
        yield Server(process.pid, port)
    finally:
        _end(process)


def command(scenario: Scenario, workers: int, folder: Path) -> list[str]:
    """The command line. Port 0 lets the kernel choose a free one; `gunicorn_conf` tells which."""
    return [
        *(sys.executable, "-m", "gunicorn", "-w", str(workers)),
        *(["--preload"] if scenario.preload else []),
        *("--bind", "127.0.0.1:0", "--timeout", str(scenario.timeout_s), "--graceful-timeout", "1"),
        "--no-control-socket",  # its place is the same for all gunicorns of one user
        *("--config", str(Path(__file__).with_name("gunicorn_conf.py"))),
        "demo_app.app:app",
    ]


def environment(scenario: Scenario, folder: Path) -> dict[str, str]:
    ours = {"DEMO_SCENARIO": scenario.name, "DEMO_FOLDER": str(folder), "DEMO_RUNNER": str(os.getpid())}
    mine = {name: value for name, value in os.environ.items() if name != "GUNICORN_CMD_ARGS"} | ours
    if not scenario.traced:
        return mine
    from semtrace.instrument import bootstrap  # here, for without semtrace the runner has a word to say

    return bootstrap.environment(mine)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Did it come true in time?"""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], workers: int, folder: Path) -> int:
    def ready() -> bool:
        return len(list(folder.glob("worker-*"))) >= workers and (folder / "port").exists()

    wait_until(lambda: process.poll() is not None or ready(), START_S)
    if process.poll() is not None or not ready():
        lines = (folder / "log").read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        raise DemoError("\n".join(["gunicorn did not start. The end of its log:", *lines]))
    return int((folder / "port").read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Quickly and politely; then without asking. The workers are in the master's process group."""
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
