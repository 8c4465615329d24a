"""`R`: the evidence that a lock is orphaned, a key to release it, and the outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import Lock, Snapshot
from semtrace.text import clean
from semtrace.tui.messages import Broken
from semtrace.tui.screens.sheets import Sheet
from semtrace.tui.state import Release, ViewState
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.lock_entries import lock_entries
from semtrace.tui.text.orphan_lines import orphan
from semtrace.tui.text.rows import label


class ReleaseSheet(Sheet):
    """Asks, acts in a thread after a yes, and shows the outcome. It uses the newest picture, also while paused."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("Y,y", "confirm", show=False),
        Binding("n", "leave", show=False),
    ]
    asks = True

    class Done(Message):
        """The release was tried: `lines` describe the outcome."""

        def __init__(self, lines: Sequence[str], failed: bool) -> None:
            super().__init__()
            self.lines = lines
            self.failed = failed

    def __init__(self, view_state: ViewState, lock: Lock, release: Release) -> None:
        super().__init__(self._title, self._entries)
        self._view_state = view_state
        self._lock = lock
        self._release = release
        self._acting = False
        self._outcome: ReleaseSheet.Done | None = None

    def action_confirm(self) -> None:
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
            outcome: Message = self.Done(self._release(self._view_state.server, self._lock.id), failed=False)
        except SemtraceError as error:
            outcome = self.Done([text for text in (str(error), error.remedy) if text], failed=True)
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
            outcome = Broken(error)
        self.post_message(outcome)

    def collected(self) -> None:
        self.renew()

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def _still_orphaned(self) -> Lock | None:
        return orphan(self._lock.id, self._view_state.newest)

    def _title(self) -> str:
        name = label(self._lock)
        if self._outcome is not None:
            return f"Not released: {name}" if self._outcome.failed else f"Released {name}"
        return f"Releasing {name} …" if self._acting else f"Release {name}?"

    def _entries(self) -> Iterable[Entry]:
        if self._outcome is not None:
            return _outcome_entries(self._outcome)
        if self._acting:
            return [Entry("", "Proving it once more, then releasing it …")]
        lock, snapshot = self._still_orphaned(), self._view_state.newest
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


def _outcome_entries(outcome: ReleaseSheet.Done) -> Iterator[Entry]:
    for line in outcome.lines:
        yield Entry("", clean(line), "warning" if outcome.failed else "")
