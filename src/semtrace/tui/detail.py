"""The sheet of one row, and `t` in it: the Python stacks of its threads, taken once each time that one asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.model import Lock, Problem, Process, ProcessId, Snapshot
from semtrace.stack_report import stack_lines
from semtrace.tui import subjects
from semtrace.tui.entries import Entry, problem_entries
from semtrace.tui.line import Item, Span
from semtrace.tui.looking import Stacks, TakeStacks
from semtrace.tui.messages import Broken
from semtrace.tui.page import Sheet


def concerned(row: Hashable, snapshot: Snapshot | None) -> list[tuple[ProcessId, int | None]]:
    """Whose stacks tell something about it: a lock's holders and waiters, a process's threads (None: all of them)."""
    subject = subjects.find(row, snapshot) if snapshot else None
    if isinstance(subject, Lock):
        holders = [(holder.process, holder.tid) for holder in subject.holders]
        return [*holders, *((waiter.process, waiter.tid) for waiter in subject.waiters)]
    return [(subject.id, None)] if isinstance(subject, Process) else []


def stack_entries(row: Hashable, snapshot: Snapshot | None, stacks: Stacks) -> Iterator[Entry]:
    for process, tid in concerned(row, snapshot):
        for (owner, thread), stack in stacks.items():
            if owner == process and tid in (None, thread):
                label = str(process.pid) if thread == process.pid else f"{process.pid}/{thread}"
                yield Entry(label, "\n".join(stack_lines(stack)) or "in no Python code")


class DetailSheet(Sheet):
    """`look` gives the newest picture; `take` runs in a thread of its own."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "stacks", show=False)]

    class Taken(Message):
        def __init__(self, stacks: Stacks, problems: Sequence[Problem]) -> None:
            super().__init__()
            self.stacks = stacks
            self.problems = problems
            self.at = datetime.now()

    def __init__(self, title: str, row: Hashable, look: Callable[[], Snapshot | None], take: TakeStacks | None) -> None:
        super().__init__(title, self._entries)
        self._row = row
        self._look = look
        self._take = take
        self._taking = False
        self._taken: DetailSheet.Taken | None = None

    def hints(self) -> Sequence[Item]:
        able = self._take is not None and concerned(self._row, self._look())
        return [Item(0, (Span("t", "key"), Span(" stacks", "dim")))] if able else ()

    def action_stacks(self) -> None:
        processes = list(dict.fromkeys(process for process, _ in concerned(self._row, self._look())))
        if self._take is not None and processes and not self._taking:
            self._taking = True
            act = threading.Thread(target=self._act, args=(self._take, processes), name="semtrace-stacks", daemon=True)
            act.start()
            self.renew()

    def _act(self, take: TakeStacks, processes: Sequence[ProcessId]) -> None:
        """Runs in its own thread."""
        try:
            told: Message = self.Taken(*take(processes))
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
            told = Broken(error)
        self.post_message(told)

    def on_detail_sheet_taken(self, message: Taken) -> None:
        self._taking, self._taken = False, message
        self.renew()

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def _entries(self) -> Iterable[Entry]:
        snapshot = self._look()
        if snapshot is not None:
            yield from subjects.entries(self._row, snapshot)
        if self._taking:
            yield Entry("stacks", "reading …", "dim")
        elif self._taken is not None:
            yield Entry("stacks", f"as they were at {self._taken.at:%H:%M:%S}; t reads them again", "dim")
            yield from stack_entries(self._row, snapshot, self._taken.stacks)
            yield from problem_entries(self._taken.problems)
