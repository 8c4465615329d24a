"""Start a program or a server, make it sick, and see that it is: what the cases and the survey have in common.

A server listens on a unix socket, so that cases side by side never want the same port. Requests are sent from threads,
because those that make a server sick never return.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from support import PATIENCE_S, alive, child_pids, descendants, start, start_ticks, wait_until

_DEBUGGER = """
import ctypes, sys, time
SEIZE, INTERRUPT = 0x4206, 0x4207
for request in (SEIZE, INTERRUPT):
    if ctypes.CDLL(None).ptrace(request, int(sys.argv[1]), None, None):
        sys.exit("ptrace failed")
time.sleep(600)
"""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Sick:
    """A running program. `pid` is that of its first process, `socket` where it listens if it is a server."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, folder: Path) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.folder = folder
        self._log = log
        self._ended = threading.Event()
        self.helpers: list[subprocess.Popen[bytes]] = []

    @property
    def socket(self) -> Path:
        return self.folder / "http"

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        self._ended.set()
        for helper in self.helpers:
            helper.kill()
            helper.wait()

    # What it consists of.

    def children(self) -> list[int]:
        """Return its living children in the order of their start."""
        return sorted((pid for pid in child_pids(self.pid) if alive(pid)), key=_age)

    def grandchildren(self) -> list[int]:
        return sorted((pid for child in self.children() for pid in child_pids(child) if alive(pid)), key=_age)

    def tree(self) -> list[int]:
        return [pid for pid in (self.pid, *descendants(self.pid)) if alive(pid)]

    def wait_children(self, count: int) -> list[int]:
        def enough() -> list[int]:
            pids = self.children()
            return pids if len(pids) == count else []

        return wait_until(enough, what=f"{count} children of {self.pid}; it said: {self.output()[-1500:]}")

    def wait_output(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.output().count(text) >= times or not alive(self.pid), what=f"{text!r} in its output")
        assert self.output().count(text) >= times, f"ended without {text!r}: {self.output()[-1500:]}"

    def wait_accepting(self) -> None:
        """Wait until the server answers on its socket."""

        def connected() -> bool:
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}: {self.output()[-1500:]}"
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.connect(str(self.socket))
                return True
            return False

        wait_until(connected, what=f"the server to listen; it said: {self.output()[-1500:]}")

    def wait_still(self, for_s: float = 0.5, timeout: float = PATIENCE_S) -> bool:
        """Wait until its processes have hardly run for a while and none wants to; return False if they never rest."""
        deadline = time.monotonic() + timeout
        since, before = time.monotonic(), self._progress()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self._progress()
            if now[0] != before[0] or now[1] - before[1] > 0.03 * _TICKS_PER_S or _any_wants_to_run(now[0]):
                since, before = time.monotonic(), now
            elif time.monotonic() - since >= for_s:
                return True
        return False

    def wait_asleep(self, threads: int, *calls: int) -> None:
        """Wait until so many threads of its processes sleep in one of these system calls."""
        wait_until(
            lambda: sum(len(sleeps_in(pid, *calls)) for pid in self.tree()) >= threads,
            what=f"{threads} threads of {self.pid} to sleep in {calls}",
        )

    def _progress(self) -> tuple[frozenset[int], int]:
        pids = self.tree()
        return frozenset(pids), sum(map(_cpu_ticks, pids))

    # What makes it sick.

    def ask(self, *paths: str) -> None:
        """Send these requests at once, and wait for no answer."""
        for path in paths:
            threading.Thread(target=self._request, args=(path,), daemon=True).start()

    def get(self, path: str = "/") -> bytes:
        """Send one request and return its whole response."""
        return self._request(path)

    def ask_always(self, *paths: str) -> None:
        """Send each of these again and again, one after the other, until the case is over."""
        for path in paths:
            threading.Thread(target=self._repeat, args=(path,), daemon=True).start()

    def signal(self, number: int, pid: int | None = None) -> None:
        os.kill(pid or self.pid, number)

    def signal_until(self, number: int, pause_s: float, stopped: Callable[[], bool], most: int = 20000) -> None:
        """Send a signal again and again until it has taken its effect."""
        for count in range(most):
            self.signal(number)
            time.sleep(pause_s)
            if count % 50 == 49 and stopped():
                return
        raise AssertionError(f"signal {number} has had no effect in {most} times")

    def _repeat(self, path: str) -> None:
        while not self._ended.is_set():
            if not self._request(path):
                time.sleep(0.1)

    def _request(self, path: str) -> bytes:
        chunks = []
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(600)
            connection.connect(str(self.socket))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            while chunk := connection.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks)


@contextlib.contextmanager
def running(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Sick]:
    """Start a command; `{socket}` and `{folder}` in it are replaced. It ends with all its processes."""
    with tempfile.TemporaryDirectory(prefix="semtrace-case-") as name:
        folder = Path(name)

        def filled(text: str) -> str:
            return text.replace("{socket}", str(folder / "http")).replace("{folder}", name)

        more = {key: filled(value) for key, value in (env or {}).items()}
        with start(*map(filled, argv), cwd=cwd, env={"HOME": name, **more}) as (popen, log):
            sick = Sick(popen, log, folder)
            try:
                yield sick
            finally:
                sick.close()


def gunicorn(python: str, *arguments: str) -> list[str]:
    return [python, "-m", "gunicorn", "--no-control-socket", "--bind", "unix:{socket}", *arguments]


def uvicorn(python: str, *arguments: str) -> list[str]:
    return [python, "-m", "uvicorn", "--uds", "{socket}", *arguments]


def uwsgi(python: str, *arguments: str) -> list[str]:
    """Return the command of the uwsgi that is installed next to this interpreter."""
    return [str(Path(python).parent / "uwsgi"), "--http-socket", "{socket}", "--master", "--enable-threads", *arguments]


def sleeps_in(pid: int, *calls: int) -> list[int]:
    """Return the threads of a process that sleep in one of these system calls, by their numbers."""
    found = []
    with contextlib.suppress(OSError):
        for tid in map(int, os.listdir(f"/proc/{pid}/task")):
            with contextlib.suppress(OSError):
                word = Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()[0]
                if word.isdigit() and int(word) in calls:
                    found.append(tid)
    return sorted(found)


def catches(pid: int, number: int) -> bool:
    """Return True if a process has a handler for this signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return stat[stat.rindex(")") + 2] in "Tt"
    return False


def hold_by_debugger(sick: Sick, pid: int) -> None:
    """Stop a process as a debugger does, which is a process of its own: it ends with the case, and lets go."""
    sick.helpers.append(subprocess.Popen([sys.executable, "-c", _DEBUGGER, str(pid)]))
    wait_until(lambda: stopped(pid), what=f"{pid} to stop")


def end(pid: int) -> None:
    """Kill a process and wait for its death."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), what=f"{pid} to end")


def _any_wants_to_run(pids: Iterable[int]) -> bool:
    """Return True if a thread is not asleep: on a busy machine one that waits for a processor does not run either."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for tid in os.listdir(f"/proc/{pid}/task"):
                stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text(errors="replace")
                if stat[stat.rindex(")") + 2] in "RD":
                    return True
    return False


def _age(pid: int) -> tuple[int, int]:
    return start_ticks(pid) or 0, pid


def _cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = stat[stat.rindex(")") + 2 :].split()
        return int(fields[11]) + int(fields[12])
    return 0
