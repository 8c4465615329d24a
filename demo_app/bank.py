"""One account in two files that every worker opens: its balance, and a journal of what the workers did.

The files are shared whatever becomes of the lock, so they bear witness: the journal tells how many workers were inside
at once, and how much was paid out that the balance does not show. One `write` appends one line, and does not tear.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

START = 1_000_000
AMOUNT = 10


@dataclass(frozen=True)
class State:
    """What the files say: who is inside, who wants to be, the most that were inside at once, and the money.

    `reporter` is the worker that last began a report, whether it still lives or not.
    """

    inside: frozenset[int] = frozenset()
    waiting: frozenset[int] = frozenset()
    most_inside: int = 0
    payments: int = 0
    reporter: int | None = None
    balance: int = START

    @property
    def lost(self) -> int:
        """What was paid out, less what was booked."""
        return self.payments * AMOUNT - (START - self.balance)

    def __str__(self) -> str:
        return (
            f"{self.payments} withdrawals paid. Most workers inside at once: {self.most_inside}. "
            f"Paid out {self.payments * AMOUNT}, booked {START - self.balance}: {self.lost} lost."
        )


class Bank:
    def __init__(self, balance_fd: int, journal_fd: int) -> None:
        self._balance_fd = balance_fd
        self._journal_fd = journal_fd

    @classmethod
    def from_environment(cls) -> Bank:
        """In the folder that `python -m demo_app` made; else in nameless files that the workers inherit."""
        folder = os.environ.get("DEMO_FOLDER")
        return cls.in_folder(Path(folder)) if folder else cls(_unnamed_file(), _unnamed_file())

    @classmethod
    def in_folder(cls, folder: Path) -> Bank:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return cls(os.open(folder / "balance", flags, 0o600), os.open(folder / "journal", flags | os.O_APPEND, 0o600))

    def balance(self) -> int:
        return int(os.pread(self._balance_fd, 16, 0) or START)

    def set_balance(self, balance: int) -> None:
        os.pwrite(self._balance_fd, b"%-16d" % balance, 0)

    def note(self, deed: str) -> None:
        """Add a line to the journal: this process "wants" in, "enters", "paid", "reports", "leaves"."""
        os.write(self._journal_fd, f"{os.getpid()} {deed}\n".encode())

    def look(self) -> State:
        """Read both files. A worker that was killed is neither inside nor waiting any more."""
        size = os.fstat(self._journal_fd).st_size
        state = fold(os.pread(self._journal_fd, size, 0).decode().splitlines(), self.balance())
        inside, waiting = (frozenset(filter(_lives, pids)) for pids in (state.inside, state.waiting))
        return replace(state, inside=inside, waiting=waiting)


def fold(journal: Iterable[str], balance: int) -> State:
    """The journal's lines, in their order, as a state."""
    inside: set[int] = set()
    waiting: set[int] = set()
    reporter = None
    most_inside = payments = 0
    for line in journal:
        pid, deed = int(line.split()[0]), line.split()[1]
        if deed == "wants":
            waiting.add(pid)
        elif deed == "enters":
            waiting.discard(pid)
            inside.add(pid)
            most_inside = max(most_inside, len(inside))
        elif deed == "paid":
            payments += 1
        elif deed == "reports":
            reporter = pid
        elif deed == "leaves":
            inside.discard(pid)
    return State(frozenset(inside), frozenset(waiting), most_inside, payments, reporter, balance)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
