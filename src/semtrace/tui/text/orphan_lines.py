"""Orphaned lock that a row is about, or why `R` does nothing for that row. Pure."""

from __future__ import annotations

from collections.abc import Hashable

from semtrace.model import Lock, Snapshot
from semtrace.tui.text.rows import label
from semtrace.tui.text.subjects import find


def orphan(row: Hashable, snapshot: Snapshot | None) -> Lock | None:
    """The orphaned lock that the row is about; of several of one name the first that is. None once the server ended."""
    locks = snapshot.locks if snapshot and snapshot.alive else ()
    chosen = next((lock for lock in locks if lock.id == row), None)
    if chosen is None:
        return None
    alike = (other for other in locks if chosen.separate > 1 and other.name == chosen.name)
    return next((lock for lock in (chosen, *alike) if lock.state == "orphaned"), None)


def refusal(row: Hashable, snapshot: Snapshot | None, release: object) -> str:
    """Return why `R` does nothing here."""
    if snapshot is not None and not snapshot.alive:
        return "the server has ended: there is nothing to release any more"
    if release is None:
        return "this view changes nothing: semtrace release does it"
    subject = find(row, snapshot) if snapshot else None
    if not isinstance(subject, Lock):
        return "R releases an orphaned lock: put the cursor on one"
    return f"{label(subject)} is {subject.state}: only an orphaned lock can be released"
