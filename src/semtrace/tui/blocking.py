"""`w`: who blocks whom. The locks that are waited for, the worst first; below each who waits, and what those hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.model import Lock, LockState, ProcessId, Snapshot
from semtrace.reports.waitgraph import Node, forest
from semtrace.text import clean, counted
from semtrace.tui.grid import Cell, Column, Row
from semtrace.tui.line import Item, Span
from semtrace.tui.looking import Looking
from semtrace.tui.rows import since, since_cell
from semtrace.tui.signs import CYCLE, lock_sign
from semtrace.tui.table import Table
from semtrace.tui.view import Open, View

COLUMNS = (
    Column("WHO BLOCKS WHOM", 22, 64, 0),
    Column("STATE", 11, 12, 1),
    Column("FOR", 7, 7, 0, right=True),
    Column("BLOCKS", 6, 6, 0, right=True),
    Column("HELD BY", 8, 30, 2, cut="words"),
    Column("LINE", 12, 60, 3, cut="start", sparse=True),
)
FOOTER = ("back", "choose", "filter", "pause", "copy", "help")
UNKNOWN_HOLDER = "?"
NO_HOLDER: Mapping[LockState, str] = {"orphaned": "nobody", "free": "nobody"}  # of all others somebody may
NOTHING = ["Nobody waits for anybody."]
NOTHING_THEN = ["Nobody waited for anybody when it ended."]


def blocking_rows(snapshot: Snapshot, nodes: Sequence[Node]) -> Iterator[Row]:
    roles = {process.id: process.role for process in snapshot.processes}
    judged = {lock for finding in snapshot.findings if finding.code == "deadlock" for lock in _about(finding.lock)}
    dead = {pid for finding in snapshot.findings if finding.code == "deadlock" for pid in finding.pids}
    for place, (node, depth, drawn) in enumerate(_drawn(nodes)):
        row = _row(place, node, drawn, roles, node.lock.id in judged or _held_by(node.lock, dead))
        yield row._replace(depth=depth)


def _row(place: int, node: Node, drawn: str, roles: Mapping[ProcessId, str], deadlock: bool) -> Row:
    lock, waiter = node.lock, node.waiter
    blocks = Cell(str(node.blocks) if node.blocks else "", "strong", node.blocks)
    if waiter is not None:
        thread = "" if waiter.tid == waiter.pid else f"/{waiter.tid}"
        cells = (
            Cell(f"{drawn}{waiter.pid}{thread} {roles.get(waiter.process, 'process')}"),
            Cell("waits", "waiting"),
            Cell(since(waiter.for_s, waiter.evidence), "", waiter.for_s or 0.0),
            blocks,
            Cell(""),
            Cell(clean(waiter.site or ""), "dim"),
        )
        return Row(("waits", lock.id, waiter.process, waiter.tid), cells, (place,))
    sign = lock_sign(lock.state)
    holder = max(lock.holders, key=lambda each: each.since_s or 0.0, default=None)
    name = f"{drawn}{clean(lock.label)}"
    if node.again:
        return Row(("again", lock.id, place), (Cell(f"{name} {CYCLE} above", "dim"), *[Cell("")] * 5), (place,))
    mark = f"{CYCLE} deadlock" if node.cycle and deadlock else f"{CYCLE} cycle" if node.cycle else ""
    cells = (
        Cell(name, "strong"),
        Cell(mark or f"{sign.sign} {lock.state}", "bad" if mark else sign.style),
        since_cell(lock, holder),
        blocks,
        Cell(" ".join(str(each.pid) for each in lock.holders) or NO_HOLDER.get(lock.state, UNKNOWN_HOLDER), sign.style),
        Cell(clean((holder.site if holder else None) or ""), "dim"),
    )
    return Row(lock.id, cells, (place,))


def _drawn(nodes: Sequence[Node], depth: int = 0, before: str = "") -> Iterator[tuple[Node, int, str]]:
    """Each node with how deep it lies and the branches that lead to it."""
    for node in nodes:
        last = node is nodes[-1]
        yield node, depth, f"{before}{'└ ' if last else '├ '}" if depth else ""
        yield from _drawn(node.children, depth + 1, f"{before}{'  ' if last else '│ '}" if depth else "")


def _about(lock: Hashable) -> tuple[Hashable, ...]:
    return () if lock is None else (lock,)


def _held_by(lock: Lock, pids: set[int]) -> bool:
    return any(holder.pid in pids for holder in lock.holders)


class BlockingScreen(View):
    AUTO_FOCUS: ClassVar[str | None] = "#blocking"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "back", show=False)]

    def __init__(self, looking: Looking) -> None:
        super().__init__()
        self._looking = looking

    def compose(self) -> ComposeResult:
        yield Table(COLUMNS, id="blocking", sortable=False)
        yield from self.foot()

    def on_mount(self) -> None:
        self.say_keys()

    def on_resize(self, event: events.Resize) -> None:
        self.renew()

    def keys(self) -> Sequence[str]:
        return FOOTER

    def on_table_chosen(self, event: Table.Chosen) -> None:
        match event.row:
            case ("waits", _, process, _):
                self.post_message(Open(process))
            case ("again", lock, _):
                self.query_one(Table).select(lock)
            case lock:
                self.post_message(Open(lock))

    @property
    def row(self) -> Hashable:
        """The lock of the line, also of one that waits for it."""
        match self.query_one(Table).selected:
            case ("waits" | "again", lock, *_):
                return lock
            case lock:
                return lock

    def renew(self) -> None:
        snapshot = self._looking.snapshot
        if snapshot is None:
            return
        nodes = forest(snapshot)
        waiting = sum(node.blocks for node in nodes)
        title = [Item(0, (Span("Who blocks whom", "title"),))]
        if waiting:
            now, then = ("waits" if waiting == 1 else "wait"), "waited when it ended,"
            waits = now if snapshot.alive else then
            said = f"{counted(waiting, 'thread')} {waits} behind {counted(len(nodes), 'lock')}"
            title.append(Item(1, (Span(said, "dim"),)))
        self.query_one(Table).show(
            blocking_rows(snapshot, nodes), title, NOTHING if snapshot.alive else NOTHING_THEN, snapshot.monotonic_s
        )
