"""`R`: the evidence that a lock is orphaned, a key to release it, and what came of that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import Lock, Server, Snapshot
from semtrace.text import clean
from semtrace.tui.entries import lock_entries
from semtrace.tui.entry import Entry
from semtrace.tui.looking import Release
from semtrace.tui.messages import Broken
from semtrace.tui.page import Sheet
from semtrace.tui.rows import label
from semtrace.tui.subjects import find


def orphan(row: Hashable, snapshot: Snapshot | None) -> Lock | None:
    """The orphaned lock that the row is about; of several of one name the first that is."""
    locks = snapshot.locks if snapshot else ()
    chosen = next((lock for lock in locks if lock.id == row), None)
    if chosen is None:
        return None
    alike = (other for other in locks if chosen.separate > 1 and other.name == chosen.name)
    return next((lock for lock in (chosen, *alike) if lock.state == "orphaned"), None)


def why_not(row: Hashable, snapshot: Snapshot | None, release: Release | None) -> str:
    """Why `R` does nothing here."""
    if release is None:
        return "this view only looks: semtrace release does it"
    subject = find(row, snapshot) if snapshot else None
    if not isinstance(subject, Lock):
        return "R releases an orphaned lock: put the cursor on one"
    return f"{label(subject)} is {subject.state}: only an orphaned lock can be released"


class ReleaseSheet(Sheet):
    """Asks, acts in a thread when told to, and tells. `look` gives the newest picture."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("Y,y", "release", show=False),
        Binding("n", "leave", show=False),
    ]
    asks = True

    class Done(Message):
        """It was tried: `said` is what came of it."""

        def __init__(self, said: Sequence[str], failed: bool) -> None:
            super().__init__()
            self.said = said
            self.failed = failed

    def __init__(self, server: Server, lock: Lock, look: Callable[[], Snapshot | None], release: Release) -> None:
        super().__init__(f"Release {label(lock)}?", self._entries)
        self._server = server
        self._lock = lock
        self._look = look
        self._release = release
        self._acting = False
        self._outcome: ReleaseSheet.Done | None = None

    def action_release(self) -> None:
        if self._acting or self._still_orphaned() is None:
            return
        self._acting = True
        self.renew()
        threading.Thread(target=self._act, name="semtrace-release", daemon=True).start()

    def on_release_sheet_done(self, message: Done) -> None:
        self._outcome = message
        self.renew()

    def _act(self) -> None:
        """Runs in its own thread."""
        try:
            told: Message = self.Done(self._release(self._server, self._lock.id), failed=False)
        except SemtraceError as error:
            told = self.Done([text for text in (str(error), error.remedy) if text], failed=True)
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
            told = Broken(error)
        self.post_message(told)

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def _still_orphaned(self) -> Lock | None:
        return orphan(self._lock.id, self._look())

    def _entries(self) -> Iterable[Entry]:
        if self._outcome is not None:
            return _told(self._outcome)
        if self._acting:
            return [Entry("", "Proving it once more, then releasing it …")]
        lock, snapshot = self._still_orphaned(), self._look()
        if lock is None or snapshot is None:
            return [Entry("", "It is not orphaned any more: there is nothing to release.", "dim")]
        return _question(lock, snapshot)


def _question(lock: Lock, snapshot: Snapshot) -> Iterator[Entry]:
    waiting = len(lock.waiters)
    yield Entry("y", "release it: it is proved orphaned once more, then one that waits gets in", "strong")
    yield Entry("n, Esc", "leave it as it is")
    yield Entry("", "")
    yield Entry("waiting", f"{waiting} {'thread waits' if waiting == 1 else 'threads wait'} for it")
    yield from lock_entries(lock, snapshot)


def _told(outcome: ReleaseSheet.Done) -> Iterator[Entry]:
    for line in outcome.said:
        yield Entry("", clean(line), "warning" if outcome.failed else "")
