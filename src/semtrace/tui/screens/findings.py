"""`f`: what is wrong, the worst first; for the one that is chosen its evidence and remedy, and Enter goes there."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.model import Finding, Snapshot
from semtrace.observe.names.separate import combine
from semtrace.present.coverage import not_checked_text
from semtrace.present.findings import evidence, remedy, title
from semtrace.rules.coverage import not_checked
from semtrace.tui.screens.sheets import Page
from semtrace.tui.screens.view import Reveal, View
from semtrace.tui.state import ViewState
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.grid import Cell, Column, Row
from semtrace.tui.text.header import SEVERITIES, failed_child
from semtrace.tui.text.line import Item, Span
from semtrace.tui.text.wrapping import sheet_lines
from semtrace.tui.widgets.table import Table

COLUMNS = (
    Column("SEVERITY", 9, 9, 0),
    Column("WHAT", 30, 120, 0),
    Column("CODE", 14, 20, 1),
)
WHAT = 1
FOOTER = ("back", "choose", "filter", "sort", "next", "copy", "help")
NOTHING_THEN = ["Nothing wrong was seen before it ended."]
NOTHING = ["Nothing wrong is seen. semtrace doctor --for 60 watches for longer."]


def finding_rows(findings: Sequence[Finding]) -> list[Row]:
    return [
        Row(
            finding.key,
            (
                Cell(finding.severity, SEVERITIES[finding.severity]),
                Cell(title(finding), "strong"),
                Cell(finding.code, "dim"),
            ),
            (place,),
        )
        for place, finding in enumerate(findings)
    ]


def finding_entries(finding: Finding, titled: bool) -> Iterator[Entry]:
    """`titled` where the list had no room for the whole title."""
    if titled:
        yield Entry("what", title(finding), SEVERITIES[finding.severity])
    for place, fact in enumerate(evidence(finding)):
        yield Entry("" if place else "evidence", f"- {fact}")
    yield Entry("remedy", remedy(finding), "strong")


def target(finding: Finding, snapshot: Snapshot) -> Hashable | None:
    """Return the row of the finding; None if its lock or process is not shown now."""
    shown = combine(snapshot.locks)
    about = next((lock for lock in snapshot.locks if lock.id == finding.lock), None)
    row = next((lock for lock in shown if about and (lock.id == about.id or lock.name == about.name is not None)), None)
    if row is not None:
        return row.id
    if any(lock.name == finding.name for lock in snapshot.thread_locks):
        return finding.name
    process = next((process for process in snapshot.processes if process.pid in finding.pids), None)
    return process.id if process else None


def _nothing(view_state: ViewState) -> list[str]:
    """Return what stands in place of findings, and what "nothing" does not cover."""
    snapshot = view_state.snapshot
    if snapshot is None:
        return NOTHING
    if failed := failed_child(view_state):
        return [failed]
    first = NOTHING if snapshot.alive else NOTHING_THEN
    return [*first, *(f"Not checked: {not_checked_text(gap)}." for gap in not_checked(snapshot))]


class FindingsSheet(View):
    """The list, and below it all about the one that is chosen."""

    AUTO_FOCUS: ClassVar[str | None] = "#findings"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "back", show=False)]

    def __init__(self, view_state: ViewState) -> None:
        super().__init__()
        self._view_state = view_state
        self._to_worst = False

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Table(COLUMNS, id="findings")
        yield Page()
        yield from self.foot()

    def on_mount(self) -> None:
        self.show_keys()

    def on_resize(self) -> None:
        self.renew()

    def opened(self) -> None:
        """The worst may be another than when one last looked."""
        self._to_worst = True

    @property
    def row(self) -> Hashable:
        chosen, snapshot = self._chosen(), self._view_state.snapshot
        return target(chosen, snapshot) if chosen and snapshot else None

    def keys(self) -> Sequence[str]:
        return FOOTER

    def copied(self) -> str:
        chosen = self._chosen()
        return "\n".join((title(chosen), *evidence(chosen), remedy(chosen))) if chosen else ""

    def on_table_moved(self, event: Table.Moved) -> None:
        self._show_chosen()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        chosen, snapshot = self._chosen(), self._view_state.snapshot
        row = target(chosen, snapshot) if chosen and snapshot else None
        if row is not None:
            self.post_message(Reveal(row))
        elif chosen is not None:
            self.say("what it is about is not in the snapshot any more")

    def renew(self) -> None:
        found = self._findings()
        table = self.query_one(Table)
        heading = [Item(0, (Span("Findings", "title"),)), Item(0, (Span(str(len(found)), "dim"),))]
        table.show(finding_rows(found), heading, [] if found else _nothing(self._view_state), 0.0)
        table.set_height(min(table.wanted_height, max(self.size.height // 2, 3)))
        if self._to_worst and found:
            table.select(found[0].key)
        self._to_worst = False
        self._show_chosen()

    def _show_chosen(self) -> None:
        chosen = self._chosen()
        lines = list(sheet_lines(finding_entries(chosen, self._is_cut(chosen)), self.size.width)) if chosen else []
        self.query_one(Page).show(lines)

    def _is_cut(self, finding: Finding) -> bool:
        return self.query_one(Table).is_cut(finding.key, WHAT)

    def _chosen(self) -> Finding | None:
        selected = self.query_one(Table).selected
        return next((finding for finding in self._findings() if finding.key == selected), None)

    def _findings(self) -> tuple[Finding, ...]:
        return self._view_state.snapshot.findings if self._view_state.snapshot else ()
