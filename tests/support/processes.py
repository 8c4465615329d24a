"""Helpers of the integration tests: real processes that are waited for by condition and always cleaned up.

Not a plugin: `from support import start_gunicorn, wait_until` (pytest's `pythonpath` has `tests`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PROGRAMS = Path(__file__).parents[1] / "programs"

# How long a test waits for what has to come. A loaded machine takes its time; where all is well nobody waits so long.
PATIENCE_S = 60.0

_LISTENING = re.compile(r"Listening at: (\S+)")


def wait_until(
    predicate: Callable[[], T], timeout: float = PATIENCE_S, what: str = "the condition", pause: float = 0.01
) -> T:
    """Poll until `predicate()` is true and return its value; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last: {value!r}")
        time.sleep(pause)


def until_released(release: Callable[[], subprocess.CompletedProcess[str]]) -> subprocess.CompletedProcess[str]:
    """Run the command that releases a lock until it does; a refusal has changed nothing. Other tests may start
    processes faster than they can be asked whether they hold it.
    """
    done: list[subprocess.CompletedProcess[str]] = []

    def released() -> bool:
        done[:] = [release()]
        return done[0].returncode == 0

    try:
        wait_until(released, what="the release")
    except AssertionError as error:
        raise AssertionError(f"{error}; it says: {done[0].stderr}") from None
    return done[0]


def page_numbers_are_shown() -> bool:
    """Return True if the kernel shows us the numbers of physical pages, for which it wants CAP_SYS_ADMIN."""
    data = bytearray(1 << 16)
    page = id(data) // 4096
    with open("/proc/self/pagemap", "rb", buffering=0) as table:
        table.seek(8 * page)
        return int.from_bytes(table.read(8), "little") & ((1 << 55) - 1) != 0


@dataclass
class Running:
    """A started server. `pid` is the master's, which is not `popen.pid` behind a wrapper or with `--daemon`."""

    popen: subprocess.Popen[bytes]
    log: Path
    pid: int
    bind: str
    mark: str

    @property
    def port(self) -> int:
        """The TCP port that it listens on; ValueError for a unix socket."""
        return int(self.bind.rpartition(":")[2])

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """The pids of its living direct children, without a resource tracker.

        A lock that is made with Python 3.14's default start method begins one (Lib/multiprocessing/synchronize.py).
        """
        return [pid for pid in child_pids(self.pid) if alive(pid) and not _tracks_resources(pid)]

    def wait_workers(self, n: int, timeout: float = PATIENCE_S) -> list[int]:
        """Wait until exactly `n` children are alive and have booted, as its log says; return their pids, sorted."""

        def booted() -> list[int]:
            pids = sorted(self.workers())
            text = self.output()
            ready = len(pids) == n and all(f"Booting worker with pid: {pid}" in text for pid in pids)
            return pids if ready else []

        return wait_until(booted, timeout, f"{n} workers of {self.pid}, log:\n{self.output()[-2000:]}")

    def all_pids(self) -> list[int]:
        """Every living process that was started for it, wrappers and daemons too, if it still has its environment."""
        return sorted({self.pid, *self.workers(), *marked_pids(self.mark), *descendants(self.popen.pid)})

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def get(self, path: str = "/", timeout: float = PATIENCE_S) -> bytes:
        """The whole raw response to one GET."""
        with self.connect(timeout) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            chunks = []
            while chunk := connection.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks)

    def connect(self, timeout: float = PATIENCE_S) -> socket.socket:
        if self.bind.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            connection.connect(self.bind.removeprefix("unix:"))
            return connection
        return socket.create_connection(("127.0.0.1", self.port), timeout)


@contextlib.contextmanager
def start_gunicorn(
    app: str | None,
    *args: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    command: Sequence[str] | None = None,
    bind: str | None = "127.0.0.1:0",
    wrapper: Sequence[str] = (),
    control_socket: bool = False,
    daemon_log: bool = False,
) -> Iterator[Running]:
    """A gunicorn that listens, run as `python -m gunicorn --bind BIND ARGS APP`.

    It is killed with all its processes at the end. `command` replaces `python -m gunicorn`, `wrapper` goes in front of
    everything; `app` None and `bind` None leave those out. `cwd` is also put on PYTHONPATH for `app`; by default it is
    tests/programs. `env` is added to the environment. The control socket is switched off unless asked for: those of one
    user collide. `daemon_log` writes the log by `--log-file`, for a daemon has no stderr.
    """
    directory = Path(cwd) if cwd is not None else PROGRAMS
    argv = [*wrapper, *(command if command is not None else [python, "-m", "gunicorn"])]
    argv += ["--bind", bind] if bind else []
    argv += args
    if not control_socket and _has_control_socket(python) and command is None:
        argv.append("--no-control-socket")
    argv += [app] if app else []
    with _started(argv, directory, env, daemon_log=daemon_log) as (popen, log, mark):
        text = wait_until(lambda: _announced(popen, log), what=f"{' '.join(argv)} to listen")
        running = Running(popen, log, _master_pid(text), _bind(text), mark)
        began = start_ticks(running.pid)
        try:
            yield running
        finally:
            # A daemon with a title has no ancestor and no environment by which it could be found later.
            if began is not None and start_ticks(running.pid) == began:
                kill_tree(running.pid)


@contextlib.contextmanager
def start(
    *argv: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin_open: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Any command with its log of stdout and stderr; it and all that it started are killed at the end.

    `stdin_open` gives it a standard input that stays open, by default it is /dev/null.
    """
    with _started(list(argv), Path(cwd or PROGRAMS), env, stdin_open=stdin_open) as (popen, log, _):
        yield popen, log


_MARK = "SEMTRACE_TEST_MARK"


@contextlib.contextmanager
def _started(
    argv: list[str],
    cwd: Path,
    env: Mapping[str, str] | None,
    daemon_log: bool = False,
    stdin_open: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], Path, str]]:
    """Every process started here carries a mark in its environment: also a daemon can be found and killed by it."""
    with tempfile.TemporaryDirectory(prefix="semtrace-test-") as directory:
        log = Path(directory, "log")
        mark = directory
        full = {**os.environ, "PYTHONPATH": str(cwd), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        full.update(env or {})
        full[_MARK] = mark
        if daemon_log:
            full["GUNICORN_CMD_ARGS"] = f"--log-file {log}"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=full,
                stdin=subprocess.PIPE if stdin_open else subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield popen, log, mark
        finally:
            _kill_all(popen, mark)


def _kill_all(popen: subprocess.Popen[bytes], mark: str) -> None:
    if popen.stdin is not None:
        popen.stdin.close()
    if popen.returncode is None:  # else its pid may be another's by now
        kill_tree(popen.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    for pid in marked_pids(mark):
        kill_tree(pid)
    popen.wait(PATIENCE_S)
    # The rest: what left the process group (daemons), again until a round finds none.
    wait_until(lambda: not _kill_round(mark), what="all processes of the test to end")


def kill_tree(pid: int) -> None:
    """Kill a process that a test started and all its descendants, each stopped first so that it starts no more.

    One that is killed while it makes a semaphore leaves the file behind: that goes with it.
    """
    family = [pid]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGSTOP)
        family += child_pids(member)
    made = set().union(*map(_semaphores_of, family))
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    for entry in os.scandir("/dev/shm") if made else ():
        with contextlib.suppress(FileNotFoundError):
            if entry.name.startswith("sem.") and entry.stat().st_ino in made:
                os.unlink(entry.path)


def _semaphores_of(pid: int) -> set[int]:
    """The inodes of the semaphores in /dev/shm that a stopped process has mapped or open."""
    found = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            if " /dev/shm/sem." in line:
                found.add(int(line.split()[4]))
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            if os.readlink(path).startswith("/dev/shm/sem."):
                found.add(os.stat(path).st_ino)
    return found


def _kill_round(mark: str) -> list[int]:
    pids = marked_pids(mark)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def marked_pids(mark: str) -> list[int]:
    """The living processes whose environment, as it was at their start, carries this mark."""
    needle = f"{_MARK}={mark}\0".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if needle in Path("/proc", name, "environ").read_bytes() and alive(int(name)):
                found.append(int(name))
    return found


def alive(pid: int) -> bool:
    """Neither ended nor a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def _tracks_resources(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker import main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def start_ticks(pid: int) -> int | None:
    """When the process started (`/proc/PID/stat`, field 22), which tells it from a later one of the same pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(stat[stat.rindex(")") + 2 :].split()[19])


def child_pids(pid: int) -> list[int]:
    """The pids of all children of all its threads, none if it ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{tid}/children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """The process's children, their children, and so on."""
    found = child_pids(pid)
    for child in found:
        found += child_pids(child)
    return found


def _announced(popen: subprocess.Popen[bytes], log: Path) -> str:
    text = log.read_text(errors="replace")
    if _LISTENING.search(text):
        return text
    code = popen.poll()
    assert code in (None, 0), f"ended with {code}:\n{text}"  # 0: a daemon's launcher
    return ""


def _master_pid(text: str) -> int:
    """Gunicorn's log lines begin `[date] [pid] [LEVEL]`, and `Listening at: ADDRESS (pid)` ends with it too."""
    line = next(line for line in text.splitlines() if "Listening at: " in line)
    return int(line.rpartition("(")[2].rstrip(")"))


def _bind(text: str) -> str:
    found = _LISTENING.search(text)
    assert found
    return found[1].split(",")[0].removeprefix("http://").removeprefix("https://")


_control: dict[str, bool] = {}


def _has_control_socket(python: str) -> bool:
    """Whether that interpreter's gunicorn knows `--no-control-socket` (25.1 and later)."""
    if python not in _control:
        probe = "import gunicorn; print(gunicorn.version_info >= (25, 1))"
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
        _control[python] = done.stdout.strip() == "True"
    return _control[python]
