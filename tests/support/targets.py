"""Drives tests/programs/locks.py: every step is confirmed before the next, so no test sleeps."""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from semtrace.linux.maps import read_mappings, semaphores_in
from semtrace.model import Lock, SemId, Snapshot
from semtrace.observe.observer import Observer
from semtrace.servers.discovery import server_of

from . import pythons
from .processes import PATIENCE_S, PROGRAMS, alive, child_pids, start, wait_until

PROGRAM = PROGRAMS / "locks.py"
_FUTEX = {"x86_64": "202", "aarch64": "98", "riscv64": "98"}.get(platform.machine(), "?")


INTERPRETERS = pythons.every()
UNLINKED = "lock = mp.get_context('fork').Lock()"
"""Made so, its name is gone at once. From Python 3.14 on the default start method is another, which keeps it."""
SOME = {v: INTERPRETERS[v] for v in ("3.8", "3.12", "3.14", "3.15") if v in INTERPRETERS}
FEW = {v: INTERPRETERS[v] for v in (next(iter(SOME)), list(SOME)[-1])}  # the oldest and the newest


def keeps_names(python: str) -> bool:
    """Return True if a lock's name stays in /dev/shm: from 3.14 on the default start method is not fork."""
    return python in {INTERPRETERS.get(version) for version in ("3.14", "3.15")}


class Target:
    """A running locks.py. `pids` and `tids` are of its executors, by name."""

    def __init__(self, directory: str, answers: int, below: int = 0) -> None:
        """`below` is the process that has started it in a pid namespace of its own, 0 if nobody has."""
        self._below = below
        self.pids: dict[str, int] = {}
        self.tids: dict[str, int] = {}
        self._directory = directory
        self._answers = answers
        self._pending: dict[str, deque[str]] = defaultdict(deque)
        self._rest = b""
        self._inputs: dict[str, int] = {}

    @property
    def root(self) -> int:
        return self.pids["p"]

    def close(self) -> None:
        for fd in self._inputs.values():
            os.close(fd)

    def send(self, name: str, command: str) -> None:
        if name not in self._inputs:
            path = os.path.join(self._directory, name)
            wait_until(lambda: os.path.exists(path), what=f"the FIFO of {name}")
            self._inputs[name] = os.open(path, os.O_RDWR)
        os.write(self._inputs[name], f"{command}\n".encode())

    def answer(self, name: str, timeout: float = PATIENCE_S) -> str:
        """The next line that this executor says, without its name."""
        deadline = time.monotonic() + timeout
        while not self._pending[name]:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{name} said nothing for {timeout:g} s"
            self._rest += os.read(self._answers, 65536)
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                who, _, text = line.decode().partition(" ")
                self._pending[who].append(text)
        return self._pending[name].popleft()

    def do(self, name: str, command: str) -> str:
        """Has it done, and gives the repr of the result."""
        self.send(name, command)
        return self.done(name)

    def done(self, name: str) -> str:
        word, _, rest = self.answer(name).partition(" ")
        assert word == "ok", f"{name}: {word} {rest}"
        return rest

    def _await_ready(self, name: str) -> None:
        word, pid, tid = self.answer(name).split()
        assert word == "ready"
        self.pids[name], self.tids[name] = self._outside(int(pid), int(tid)) if self._below else (int(pid), int(tid))

    def _outside(self, pid: int, tid: int) -> tuple[int, int]:
        """The numbers that a process and thread have here, of those in its own pid namespace."""

        def found() -> tuple[int, int] | None:
            for outer in _descendants(self._below):
                if _innermost(f"/proc/{outer}/status") == pid:
                    for task in os.listdir(f"/proc/{outer}/task"):
                        if _innermost(f"/proc/{outer}/task/{task}/status") == tid:
                            return outer, int(task)
            return None

        return wait_until(found, what=f"the outer number of {pid}")  # type: ignore[return-value]

    def fork(self, *names: str, by: str = "p") -> list[int]:
        for name in names:
            self.do(by, f"fork({name!r})")
            self._await_ready(name)
        return [self.pids[name] for name in names]

    def fork_away(self, name: str, by: str = "p") -> int:
        self.do(by, f"fork_away({name!r})")
        self._await_ready(name)
        return self.pids[name]

    def thread(self, name: str, by: str = "p") -> int:
        self.do(by, f"thread({name!r})")
        self._await_ready(name)
        return self.tids[name]

    def start(self, method: str, name: str, *objects: str) -> int:
        given = ", ".join(f"{o}={o}" for o in objects)
        self.do("p", f"start({method!r}, {name!r}, {given})")
        self._await_ready(name)
        return self.pids[name]

    def block(self, name: str, lock: str, *arguments: str) -> int:
        """Has it acquire what is taken; returns its thread once the kernel shows it asleep there."""
        self.send(name, f"block({', '.join([lock, *arguments])})")
        tid = int(self._word(name, "blocking"))
        self.wait_futex(name)
        return tid

    def wait_futex(self, name: str) -> None:
        path = f"/proc/{self.pids[name]}/task/{self.tids[name]}/syscall"
        wait_until(lambda: Path(path).read_text().split()[0] == _FUTEX, what=f"{name} to sleep in futex")

    def syscall(self, name: str) -> str:
        return Path(f"/proc/{self.pids[name]}/task/{self.tids[name]}/syscall").read_text()

    def _word(self, name: str, expected: str) -> str:
        word, _, rest = self.answer(name).partition(" ")
        assert word == expected, f"{name}: {word} {rest}"
        return rest

    def hog(self, name: str) -> Callable[[], None]:
        """Has it keep its process's interpreter lock; call what is returned to end that."""
        fifo = f"gate-{name}-{time.monotonic_ns()}"
        fd = self.do(name, f"gate({fifo!r})")
        self.send(name, f"hog({fd})")
        self._word(name, "hogging")
        # The word comes just before the call; that it is in there shows in the kernel.
        wait_until(lambda: self.syscall(name).startswith(_read_from(int(fd))), what=f"{name} to keep the GIL")

        def end() -> None:
            out = os.open(os.path.join(self._directory, fifo), os.O_WRONLY)
            os.write(out, b"x")
            os.close(out)
            self.done(name)

        return end

    def start_doing(self, name: str, command: str, word: str) -> None:
        """Has it begin something endless, which it announces with that word."""
        self.send(name, command)
        self._word(name, word)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        pid = self.pids[name]
        os.kill(pid, number)
        wait_until(lambda: not alive(pid), what=f"{name} to end")


def _read_from(fd: int) -> str:
    """The beginning of a read(2) of that descriptor in /proc/PID/task/TID/syscall (x86-64 and the others)."""
    return f"{0 if platform.machine() == 'x86_64' else 63} {fd:#x} "


def _descendants(pid: int) -> list[int]:
    found = child_pids(pid)
    for child in found:
        found += child_pids(child)
    return found


def _innermost(status: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(status).read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


@contextlib.contextmanager
def target(
    python: str = sys.executable, made: str = "lock = mp.Lock()", wrapper: Sequence[str] = ()
) -> Iterator[Target]:
    """A running locks.py that has made these locks. `wrapper` starts it in a pid namespace of its own."""
    left: list[Path] = []
    with contextlib.ExitStack() as stack:
        # Unlinked last, when all is killed, for the resource tracker is killed with it.
        stack.callback(lambda: [path.unlink(missing_ok=True) for path in left])
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="semtrace-locks-"))
        os.chmod(directory, 0o777)
        for fifo in ("answers", "p"):
            os.mkfifo(os.path.join(directory, fifo))
            os.chmod(os.path.join(directory, fifo), 0o666)
        answers = os.open(os.path.join(directory, "answers"), os.O_RDWR)
        stack.callback(os.close, answers)
        popen, _ = stack.enter_context(start(*wrapper, python, str(PROGRAM), directory))
        driven = Target(directory, answers, popen.pid if wrapper else 0)
        stack.callback(driven.close)
        stack.callback(lambda: left.extend(_linked_semaphores(driven.pids.values())))
        driven._await_ready("p")
        driven.do("p", made)
        yield driven


def _linked_semaphores(pids: Iterable[int]) -> list[Path]:
    """What these processes have mapped of the semaphores in /dev/shm, for a killed server leaves them there."""
    mapped = {m.id for pid in pids for m in semaphores_in(read_mappings(pid) or [])}
    found = []
    for path in Path("/dev/shm").glob("sem.*"):
        with contextlib.suppress(OSError):
            info = path.stat()
            if SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino) in mapped:
                found.append(path)
    return found


@contextlib.contextmanager
def observing(pid: int) -> Iterator[Observer]:
    observer = Observer(server_of(pid), search_budget_s=5.0)
    try:
        yield observer
    finally:
        observer.close()


def plain(snapshot: Snapshot) -> list[Lock]:
    """Its locks without the signals, in the order of their making."""
    return [lock for lock in snapshot.locks if not lock.signal]


def only(snapshot: Snapshot) -> Lock:
    (lock,) = snapshot.locks
    return lock


def until(
    observer: Observer, wanted: Callable[[Snapshot], bool], timeout: float = PATIENCE_S, never: str = ""
) -> Snapshot:
    """Takes snapshots until one is as wanted; none before may have a lock in the state `never`."""
    seen: list[Snapshot] = []

    def good() -> bool:
        snapshot = observer.snapshot()
        seen.append(snapshot)
        assert not never or all(lock.state != never for lock in snapshot.locks), snapshot.locks
        return wanted(snapshot)

    try:
        wait_until(good, timeout, pause=0.02)
    except AssertionError as error:
        raise AssertionError(f"{error}; last: {seen[-1].locks if seen else None}") from None
    return seen[-1]


def state(observer: Observer, wanted: str, timeout: float = PATIENCE_S, never: str = "") -> Lock:
    """The only lock of the server, once it is seen in that state."""
    return only(until(observer, lambda s: bool(s.locks) and only(s).state == wanted, timeout, never))


def may_have(observer: Observer, pid: int) -> None:
    """Wait until this process is shown as one that was granted the lock and has not counted it yet."""
    lock = only(until(observer, lambda s: bool(only(s).holders), never="orphaned"))
    assert [(holder.pid, holder.certain) for holder in lock.holders] == [(pid, False)]
    assert "has not counted it yet" in (lock.reason or "")


def watch(observer: Observer, seconds: float, pause: float = 0.02) -> list[Snapshot]:
    """Snapshots of that long: for what must never appear."""
    end = time.monotonic() + seconds
    taken = []
    while time.monotonic() < end:
        taken.append(observer.snapshot())
        time.sleep(pause)
    return taken
