"""Kill, stop and starve processes of a program, as its family asks. One thread; it acts on the program's own processes
alone, each known by its PID and start time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from tests.chaos.families import Family
from tests.chaos.programs import journal as j
from tests.chaos.truth import Copy, Reader, Who

LONGEST_STOP_S = 0.8


class Controller(threading.Thread):
    """`events` are its last acts with their time, `counted` all of them by kind, `killed_s` when each was killed."""

    def __init__(self, family: Family, path: Path, root: int, numbers: random.Random) -> None:
        super().__init__(name="controller", daemon=True)
        self.events: deque[tuple[float, str]] = deque(maxlen=40)
        self.counted: Counter[str] = Counter()
        self.killed_s: dict[tuple[int, int], float] = {}
        self.error: BaseException | None = None
        self._family = family
        self._reader = Reader(path)
        self._root = root
        self._numbers = numbers
        self._over = threading.Event()
        self.undiscovered = False  # there is an orphan that no snapshot has shown yet
        self._acts: dict[str, Callable[[Copy], None]] = {
            "kill": self._kill_any,
            "kill_holder": self._kill_holder,
            "stop": self._halt,
            "starve": self._starve,
            "spin": self._spin,
            "rest": lambda copy: None,
        }

    def run(self) -> None:
        try:
            while not self._over.wait(self._numbers.uniform(*self._family.pause_s)):
                acts = self._family.acts
                (act,) = self._numbers.choices(list(acts), list(acts.values()))
                self._acts[act](self._reader.copy())
        except Exception as error:  # noqa: BLE001  a thread's would be lost
            self.error = error
        finally:
            self._reader.close()

    def end(self) -> None:
        self._over.set()
        self.join()

    def note(self, what: str) -> None:
        self.events.append((time.monotonic(), what))
        self.counted[what.split()[0]] += 1

    def _living(self, copy: Copy) -> list[Who]:
        alive = [copy.who(slot) for slot, life in copy.lives.items() if life == "alive"]
        return [who for who in alive if who.pid != self._root]

    def _holding(self, copy: Copy) -> list[Who]:
        return [
            c.who
            for c in copy.all_cells()
            if c.life == "alive" and c.units > 0 and not c.odd and c.who.pid != self._root
        ]

    def _kill_any(self, copy: Copy) -> None:
        self._kill(self._living(copy))

    def _kill_holder(self, copy: Copy) -> None:
        self._kill(self._holding(copy))

    def _kill(self, among: list[Who]) -> None:
        if among and not (self._family.one_by_one and self.undiscovered):
            who = self._numbers.choice(among)
            if self._family.makes_locks and not self._may_die(who):
                return
            self.undiscovered = self._family.one_by_one  # until a snapshot shows that it left nothing
            self.note(f"kill {who.pid}")
            send(who, signal.SIGKILL)
            self.killed_s[who.pid, who.start_ticks] = time.monotonic()

    def _may_die(self, who: Who) -> bool:
        """Stop it, and continue it if it is just making a semaphore, whose file would stay behind."""
        send(who, signal.SIGSTOP)
        for _ in range(200):
            stat = j.start_ticks(who.pid)
            if stat is None or (stat[0] == "T" and not is_making(who.pid)):
                return stat is not None
            time.sleep(0.001)
        send(who, signal.SIGCONT)
        return False

    def _halt(self, copy: Copy) -> None:
        among = self._living(copy)
        if not among:
            return
        who = self._numbers.choice(among)
        self.note(f"stop {who.pid}")
        send(who, signal.SIGSTOP)
        try:
            self._over.wait(self._numbers.random() * LONGEST_STOP_S)
        finally:
            self.note(f"continue {who.pid}")
            send(who, signal.SIGCONT)

    def _starve(self, copy: Copy) -> None:
        among = self._living(copy)
        if not among:
            return
        who = self._numbers.choice(among)
        self.note(f"starve {who.pid}")
        with contextlib.suppress(OSError):
            os.sched_setscheduler(who.tid, os.SCHED_IDLE, os.sched_param(0))
        self._spin(copy)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(who.tid, os.SCHED_OTHER, os.sched_param(0))

    def _spin(self, copy: Copy) -> None:
        """Keep a processor busy for a moment."""
        self.note("spin")
        spinner = subprocess.Popen(["sh", "-c", "while :; do :; done"])
        try:
            self._over.wait(self._numbers.random() * 0.4)
        finally:
            spinner.kill()
            spinner.wait()


def is_making(pid: int) -> bool:
    """Return True if it has a semaphore open or mapped that still has a name."""
    try:
        paths = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return True
    mapped = {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}
    named = {entry.inode() for entry in os.scandir("/dev/shm") if entry.name.startswith("sem.")}
    return any(path.startswith("/dev/shm/sem.") for path in paths) or bool(mapped & named)


def send(who: Who, number: int) -> None:
    """Send a signal to exactly this process: its PID may be another's by now."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return
    try:
        stat = j.start_ticks(who.pid)
        if stat is not None and stat[1] == who.start_ticks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)
