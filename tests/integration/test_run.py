"""`semtrace run`: the server is traced, and its end is ours."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pyte
import pytest
from support import PATIENCE_S, PROGRAMS, alive, kill_tree, wait_until
from support.tracereader import directories

from semtrace.launch import logfiles
from semtrace.launch.launched import Launched
from semtrace.wire.place import SHM_VARIABLE

RUN = [sys.executable, "-m", "semtrace", "run"]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(f"/dev/shm/semtrace-test-{os.getpid()}-{random.getrandbits(32)}")
    directory.mkdir(mode=0o755)
    monkeypatch.setenv(SHM_VARIABLE, str(directory))
    monkeypatch.setenv("PYTHONPATH", str(PROGRAMS))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    yield directory
    shutil.rmtree(directory)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def gunicorn(port: int) -> list[str]:
    options = ["-w", "2", "--preload", "--no-control-socket", "-b", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "gunicorn", *options, "traced_app:application"]


def get(port: int, path: str = "/add") -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def serves(port: int) -> bool:
    with contextlib.suppress(OSError):
        return b"200 OK" in get(port)
    return False


# ---- headless


def test_headless_passes_output_signals_and_exit_code_through(base: Path) -> None:
    port = free_port()
    running = subprocess.Popen([*RUN, "--headless", "--", *gunicorn(port)], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: serves(port), what="the server")
        assert directories(base), "it is traced"
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        with running.stderr:
            output = running.stderr.read()
        assert running.wait(PATIENCE_S) == 0
        assert f"Listening at: http://127.0.0.1:{port}" in output
        wait_until(lambda: not directories(base), what="the directory to go")
    finally:
        kill_tree(running.pid)


@pytest.mark.parametrize("code", [0, 3])
def test_headless_has_the_servers_exit_code(base: Path, code: int) -> None:
    done = subprocess.run([*RUN, "--headless", sys.executable, "-c", f"raise SystemExit({code})"])
    assert done.returncode == code


def test_nothing_to_run_is_a_usage_error(base: Path) -> None:
    for command, said in (([], "nothing to run"), (["--", "no-such-program"], "no program no-such-program")):
        done = subprocess.run([*RUN, "--headless", *command], capture_output=True, text=True)
        assert done.returncode == 2
        assert said in done.stderr


# ---- with the live view


class Terminal:
    """semtrace in a terminal of 160 by 45."""

    def __init__(self, *command: str) -> None:
        self.leader, follower = pty.openpty()
        ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 160, 0, 0))
        self.popen = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True)
        os.close(follower)
        self._screen = pyte.Screen(160, 45)
        self._stream = pyte.ByteStream(self._screen)

    def press(self, keys: str) -> None:
        os.write(self.leader, keys.encode())

    @property
    def text(self) -> str:
        while select.select([self.leader], [], [], 0)[0]:
            try:
                self._stream.feed(os.read(self.leader, 65536))
            except OSError:  # EIO: it has ended
                break
        return "\n".join(line.rstrip() for line in self._screen.display)

    def sees(self, *parts: str) -> None:
        try:
            wait_until(lambda: all(part in self.text for part in parts), what=f"{parts}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen:\n{self.text}") from None

    def ends(self) -> int:
        def ended() -> bool:
            _ = self.text  # a program waits for its terminal to be read
            return self.popen.poll() is not None

        wait_until(ended, what="it to end")
        return self.popen.returncode


@contextlib.contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    shown = Terminal(*command)
    try:
        yield shown
    finally:
        kill_tree(shown.popen.pid)
        shown.popen.wait()
        os.close(shown.leader)


def test_live_view_traces_the_server_that_it_starts_and_stops(base: Path) -> None:
    port = free_port()
    with terminal(*RUN, "--", *gunicorn(port)) as shown:
        shown.sees("traced_app.lock", "TAKEN", "o output")
        shown.press("o")
        shown.sees("Output", "Listening at")
        for _ in range(10):
            assert b"200 OK" in get(port)
        shown.press("e")
        shown.sees("Events", "released", "traced_app.py:")
        shown.press("e")
        shown.sees("Workers", "Output")
        shown.press("q")
        shown.sees("stop the server")
        shown.press("s")
        assert shown.ends() == 0
    assert not serves(port)
    wait_until(lambda: not directories(base), what="the directory to go")


def test_a_server_can_be_left_running(base: Path) -> None:
    port = free_port()
    with terminal(*RUN, "--", *gunicorn(port)) as shown:
        shown.sees("traced_app.lock")
        shown.press("q")
        shown.sees("leave it running")
        shown.press("l")
        assert shown.ends() == 0
        said = re.compile(r"process (\d+) runs on; its output goes to (\S+\.log)")
        found = wait_until(lambda: said.search(shown.text), what="where its output goes to")
        log = Path(found[2])
        try:
            assert serves(port)
            logfiles.sweep()
            assert "Listening at" in log.read_text(), "it is still written"
        finally:
            os.kill(int(found[1]), signal.SIGTERM)
        wait_until(lambda: not alive(int(found[1])), what="the server to end")
        assert "Shutting down" in log.read_text()
        wait_until(lambda: logfiles.sweep() or not log.exists(), what="the log to be removed by a later run")


def test_the_exit_code_of_the_server_is_that_of_semtrace(base: Path) -> None:
    """Gunicorn ends with 3 when its worker cannot boot; with 1 if a second one fails while it stops for the first."""
    command = [*gunicorn(free_port())[:-1], "-w", "1", "no_such_module:app"]
    with terminal(*RUN, "--", *[part for part in command if part != "--preload"]) as shown:
        deadline = time.monotonic() + PATIENCE_S
        while shown.popen.poll() is None and "The server ended with exit code" not in shown.text:
            assert time.monotonic() < deadline, shown.text
        shown.press("q")
        assert shown.ends() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both(base: Path, number: signal.Signals) -> None:
    port = free_port()
    with terminal(*RUN, "--", *gunicorn(port)) as shown:
        shown.sees("traced_app.lock")
        shown.popen.send_signal(number)
        shown.ends()
        assert not serves(port)


def test_files_of_killed_workers_are_removed_with_the_started_server(base: Path) -> None:
    port = free_port()
    launched = Launched(gunicorn(port))
    try:
        launched.server()
        wait_until(lambda: serves(port), what="the server to listen")
        with contextlib.suppress(OSError):
            get(port, "/die")
        assert directories(base)
        launched.forget()
        assert directories(base), "it runs"
    finally:
        launched.stop()
        assert directories(base), "the evidence of the one that was killed"
        launched.forget()
    assert not directories(base)
