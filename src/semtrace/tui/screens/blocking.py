"""`w`: which thread blocks which, as a tree. Below each lock are its waiters, and below those the locks they hold."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.model import Lock, LockState, ProcessId, Snapshot, Target, ThreadId, Wait, WaitGraph, WaitKind
from semtrace.present.waits import target_text, wait_place
from semtrace.text import clean, counted
from semtrace.tui.screens.view import Open, View
from semtrace.tui.state import ViewState
from semtrace.tui.text.attention import Flags, age_style
from semtrace.tui.text.grid import Cell, Column, Row
from semtrace.tui.text.line import Item, Span
from semtrace.tui.text.marks import Mark, Marks, mark_text
from semtrace.tui.text.rows import counted_pids, since, since_cell
from semtrace.tui.text.signs import CYCLE, WARNING, lock_sign
from semtrace.tui.text.threads import holder_text, threaded
from semtrace.tui.widgets.table import Table
from semtrace.waits.tree import Node, forest

COLUMNS = (
    Column("BLOCKING TREE", 22, 64, 0),
    Column("STATE", 11, 12, 1),
    Column("FOR", 7, 7, 0, right=True),
    Column("BLOCKS", 6, 6, 0, right=True),
    Column("HELD BY", 8, 30, 2, cut="words"),
    Column("LINE", 12, 60, 3, cut="start", sparse=True),
)
FOOTER = ("back", "choose", "filter", "pause", "copy", "help")
_LOCKS = (WaitKind.SHARED_LOCK, WaitKind.PRIVATE_LOCK, WaitKind.FILE_LOCK, WaitKind.MANAGER_LOCK)
UNKNOWN_HOLDER = "?"
NO_HOLDER: Mapping[LockState, str] = {"orphaned": "nobody", "free": "nobody"}  # of all others somebody may
NOTHING = ["Nobody waits for anybody."]
NOTHING_THEN = ["Nobody waited for anybody when it ended."]


def blocking_rows(snapshot: Snapshot, nodes: Sequence[Node]) -> Iterator[Row]:
    marks, flags = Marks(snapshot), Flags(snapshot)
    roles = {process.id: process.role for process in snapshot.processes}
    locks = {lock.id: lock for lock in snapshot.locks}
    for place, (node, depth, drawn) in enumerate(_drawn(nodes)):
        if node.wait is not None:
            row = _waiting_row(place, node, node.wait, drawn, roles, snapshot.waits.stuck)
        else:
            lock = locks.get(node.target.semaphore) if node.target.semaphore else None
            row = _thing_row(place, node, lock, drawn, snapshot, marks, flags)
        yield row._replace(depth=depth)


def _waiting_row(
    place: int, node: Node, wait: Wait, drawn: str, roles: Mapping[ProcessId, str], stuck: Collection[ThreadId]
) -> Row:
    process, tid = wait.thread
    thread = "" if tid == process.pid else f"/{tid}"
    cells = (
        Cell(f"{drawn}{process.pid}{thread} {roles.get(process, 'process')}"),
        Cell("stuck", "bad") if wait.thread in stuck else Cell("waits", "waiting"),
        Cell(since(wait.for_s, wait.evidence), age_style(wait.for_s), wait.for_s or 0.0),
        Cell(str(node.blocks) if node.blocks else "", "strong", node.blocks),
        Cell(""),
        Cell(wait_place(wait), "dim"),
    )
    return Row(("waits", _id(node.target), process, tid), cells, (place,))


def _thing_row(
    place: int, node: Node, lock: Lock | None, drawn: str, snapshot: Snapshot, marks: Marks, flags: Flags
) -> Row:
    name = f"{drawn}{target_text(node.target)}"
    if node.again:
        cells = (Cell(name, "dim"), Cell(f"{CYCLE} above", "dim"), *[Cell("")] * 4)
        return Row(("again", _id(node.target), place), cells, (place,))
    holder = max(lock.holders, key=lambda each: each.since_s or 0.0, default=None) if lock else None
    state, style = _state(node, lock, marks.of_target(node.target))
    flag = flags.style(node.target.semaphore or node.target.name)
    if flag and style not in ("bad", "orphaned"):
        state, style = f"{WARNING} {state.split(' ', 1)[-1]}".rstrip(), flag
    cells = (
        Cell(name, "strong"),
        Cell(state, style),
        since_cell(lock, holder) if lock else Cell(""),
        Cell(str(node.blocks) if node.blocks else "", "strong", node.blocks),
        Cell(_held_by(node, lock, snapshot), lock_sign(lock.state).style if lock else ""),
        Cell(clean((holder.site if holder else None) or ""), "dim"),
    )
    return Row(_id(node.target), cells, (place,))


def _state(node: Node, lock: Lock | None, mark: Mark | None) -> tuple[str, str]:
    """Return the state of a thing: its mark if it has one, or that it is in a cycle, else the state of a lock."""
    if lock is not None and lock.state == "orphaned":
        return f"{lock_sign(lock.state).sign} {lock.state}", lock_sign(lock.state).style
    if mark is not None:
        return mark_text(mark), "bad"
    if node.cycle:
        return f"{CYCLE} cycle", "bad"
    return (f"{lock_sign(lock.state).sign} {lock.state}", lock_sign(lock.state).style) if lock else ("", "dim")


def _held_by(node: Node, lock: Lock | None, snapshot: Snapshot) -> str:
    """Return who holds a lock; of anything else who could end the waits for it."""
    if lock is not None:
        several = threaded(snapshot)
        return " ".join(holder_text(each, several) for each in lock.holders) or NO_HOLDER.get(
            lock.state, UNKNOWN_HOLDER
        )
    return " ".join(str(process.pid) for process in _enders(node.target, snapshot.waits))


def _enders(target: Target, graph: WaitGraph) -> list[ProcessId]:
    """Return the processes that the waits for a thing hang on: its holders, else all who could wake them."""
    wait = next((wait for wait in graph.waits if wait.target == target), None)
    if wait is not None and wait.holders:
        return list(dict.fromkeys(thread.process for thread in wait.holders))
    if target.process is not None:
        return [target.process]
    if wait is None:
        return []
    return list(dict.fromkeys((*(thread.process for thread in wait.wakers.threads), *wait.wakers.processes)))


def _nothing(snapshot: Snapshot) -> list[str]:
    """Say that nobody waits only where that is known."""
    if not snapshot.alive:
        return NOTHING_THEN
    other = [wait for wait in snapshot.waits.waits if not wait.idle]
    notice = NOTHING
    if other:
        waiting = counted(len(other), "thread waits", "threads wait")
        notice = [
            f"Nobody waits for a lock. {waiting} in a library: {counted_pids(each.thread.process for each in other)}."
        ]
    unread = [problem for problem in snapshot.problems if problem.process or problem.unread]
    return [*notice, "Not everything could be read: p shows the problems."] if unread else notice


def _waiting_for(target: Target, graph: WaitGraph) -> list[ProcessId]:
    return [wait.thread.process for wait in graph.waits if wait.target == target]


def _id(target: Target) -> Hashable:
    """Return what the row is about: a lock by its semaphore, so that the cursor finds it in the other panes."""
    return target.semaphore or target


def _drawn(nodes: Sequence[Node], depth: int = 0, before: str = "") -> Iterator[tuple[Node, int, str]]:
    """Yield each node with its depth and the branches that lead to it."""
    for node in nodes:
        last = node is nodes[-1]
        yield node, depth, f"{before}{'└ ' if last else '├ '}" if depth else ""
        yield from _drawn(node.children, depth + 1, f"{before}{'  ' if last else '│ '}" if depth else "")


class BlockingScreen(View):
    AUTO_FOCUS: ClassVar[str | None] = "#blocking"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "back", show=False)]

    def __init__(self, view_state: ViewState) -> None:
        super().__init__()
        self._view_state = view_state

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Table(COLUMNS, id="blocking", sortable=False)
        yield from self.foot()

    def on_mount(self) -> None:
        self.show_keys()

    def on_resize(self, event: events.Resize) -> None:
        self.renew()

    def keys(self) -> Sequence[str]:
        return FOOTER

    def on_table_chosen(self, event: Table.Chosen) -> None:
        match event.row:
            case ("waits", _, process, _):
                self.post_message(Open(process))
            case ("again", thing, _):
                self.query_one(Table).select(thing)
            case Target() as target:
                snapshot = self._view_state.snapshot
                concerned = (
                    [*_enders(target, snapshot.waits), *_waiting_for(target, snapshot.waits)] if snapshot else []
                )
                there = {process.id for process in snapshot.processes} if snapshot else set()
                process = next((each for each in concerned if each in there), None)
                if process is not None:
                    self.post_message(Open(process))
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
        snapshot = self._view_state.snapshot
        if snapshot is None:
            return
        nodes = forest(snapshot.waits)
        waiting = sum(node.blocks for node in nodes)
        title = [Item(0, (Span("Blocking tree", "title"),))]
        if waiting:
            now, then = ("waits" if waiting == 1 else "wait"), "waited when it ended,"
            waits = now if snapshot.alive else then
            locks = all(node.target.kind in _LOCKS for node in nodes)
            summary = f"{counted(waiting, 'thread')} {waits} behind {counted(len(nodes), 'lock' if locks else 'thing')}"
            title.append(Item(1, (Span(summary, "dim"),)))
        self.query_one(Table).show(blocking_rows(snapshot, nodes), title, _nothing(snapshot), snapshot.monotonic_s)
