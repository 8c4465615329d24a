"""A pane: a title, column headings and rows, with a cursor that stays on what it is on when the rows move."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.tui.commands import bindings, perform
from semtrace.tui.remembered import Order
from semtrace.tui.text.grid import Arrangement, Column, Row, arrange, changed, column_at, heading, row_line
from semtrace.tui.text.kept import Kept
from semtrace.tui.text.line import Item, Line, Span, fill, spread, under
from semtrace.tui.text.wrapping import wrapped
from semtrace.tui.widgets.line_widget import LineWidget
from semtrace.tui.widgets.widths import Widths

HEAD = 2
MARK_S = 1.0
NO_MARKS: frozenset[int] = frozenset()


class Table(LineWidget, can_focus=True):
    """Rows come whole with every picture; their identities carry the cursor and the marks over.

    Where the order of the rows is what they say (a tree, a log), it is not `sortable`, and no order is remembered.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1_000_000)", show=False),
        Binding("end,G", "move(1_000_000)", show=False),
        *bindings("sort", "reverse", "unsort", "choose"),
    ]

    class Chosen(Message):
        """Enter was pressed, or a row was clicked a second time."""

        def __init__(self, table: Table, row: Hashable) -> None:
            super().__init__()
            self.table = table
            self.row = row

    class Ready(Message):
        """The table is ready for the order of its rows."""

        def __init__(self, table: Table) -> None:
            super().__init__()
            self.table = table

    class Sorted(Ready):
        """The user wants another order."""

    class Moved(Message):
        """The cursor is on another row, or the pane has got the focus."""

    def __init__(self, columns: Sequence[Column], *, id: str, sortable: bool = True) -> None:  # noqa: A002
        super().__init__(id=id)
        self.view = Arrangement()
        self._sortable = sortable
        self._columns = columns
        self._worth_a_mark = [i for i, column in enumerate(columns) if column.marked]
        self._all: dict[Hashable, Row] = {}
        self._rows: list[Row] = []
        self._title: Sequence[Item] = ()
        self._notice: Sequence[str] = ()
        self._needs = Widths(columns)
        self._widths: list[int] = []
        self._marks: dict[Hashable, dict[int, tuple[float, str]]] = {}  # of each row, by its columns
        self._heads: Kept[list[Line]] = Kept()
        self._drawn: dict[Hashable, tuple[object, Line]] = {}  # the rows drawn last, with all that they depend on
        self._cursor = 0
        self._top = 0

    # ---- input

    def show(self, rows: Iterable[Row], title: Sequence[Item], notice: Sequence[str], now_s: float) -> None:
        """Show these rows, or `notice` if there are none. `now_s` is the picture's time, by which marks fade."""
        new = {row.id: row for row in rows}
        self._mark(new, now_s)
        self._all = new
        self._title = title
        self._notice = notice
        self._needs.need(list(new.values()), now_s)
        self._arrange()

    def set_filter(self, pattern: str) -> None:
        self.view = replace(self.view, filter=pattern)
        self._arrange()
        self.post_message(self.Moved())

    def select(self, row: Hashable) -> None:
        """Puts the cursor on the row; a filter that hides it goes."""
        if row in self._all and all(each.id != row for each in self._rows):
            self.set_filter("")
        place = next((place for place, each in enumerate(self._rows) if each.id == row), None)
        if place is not None:
            self._go(place)

    @property
    def order(self) -> Order:
        column = self.view.column
        return Order("" if column is None else self._columns[column].title, self.view.reverse)

    def set_order(self, order: Order) -> None:
        """A column that there is no longer is the natural order."""
        places = {column.title: i for i, column in enumerate(self._columns)}
        self.view = replace(self.view, column=places.get(order.column), reverse=order.reverse)
        self._arrange()

    # ---- output

    @property
    def selected(self) -> Hashable | None:
        return self._rows[self._cursor].id if self._rows else None

    @property
    def listed(self) -> list[Hashable]:
        """The identities of the rows, without those that the filter hides, in their order."""
        return [row.id for row in self._rows]

    @property
    def selected_text(self) -> str:
        """The row under the cursor, also what has no room in it."""
        if not self._rows:
            return ""
        return "  ".join(cell.text for cell in self._rows[self._cursor].cells if cell.text)

    def has(self, row: Hashable) -> bool:
        return row in self._all

    def is_cut(self, row: Hashable, column: int) -> bool:
        """Return True if the row's cell has no room for its text."""
        found = self._all.get(row)
        width = self._widths[column] if self._widths else 0
        return found is not None and cell_len(found.cells[column].text) > width

    @property
    def wanted_height(self) -> int:
        """Lines that would show everything."""
        return HEAD + max(len(self._all), len(self._notice_lines()), 1)

    # ---- keys and mouse

    def action_move(self, by: int) -> None:
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self._cursor + by * max(self._room - 1, 1))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._sortable or action not in ("sort", "reverse", "unsort")

    def action_sort(self) -> None:
        """The next visible column, after the last one the natural order."""
        after = -1 if self.view.column is None else self.view.column
        visible = [i for i, width in enumerate(self._widths) if width and i > after and self._columns[i].title]
        self._sort_by(visible[0] if visible else None)

    def action_reverse(self) -> None:
        self.view = replace(self.view, reverse=not self.view.reverse)
        self._arrange()
        self.post_message(self.Sorted(self))

    def action_unsort(self) -> None:
        self.view = replace(self.view, column=None, reverse=False)
        self._arrange()
        self.post_message(self.Sorted(self))

    def action_choose(self) -> None:
        if self._rows:
            self.post_message(self.Chosen(self, self._rows[self._cursor].id))

    async def on_click(self, event: events.Click) -> None:
        if event.y == 0 and (name := self.named_at(event.x, 0)) is not None:
            await perform(self.screen, name)
        elif event.y == 1:
            column = column_at(self._widths, event.x - 1)
            if column is not None and self._sortable and self._columns[column].title:
                self._sort_by(column)
        elif event.y >= HEAD and event.y - HEAD + self._top < len(self._rows):
            self._go(event.y - HEAD + self._top)
            if event.chain > 1:
                self.action_choose()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.action_move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.action_move(-1)

    def on_mount(self) -> None:
        if self._sortable:
            self.post_message(self.Ready(self))

    def on_focus(self) -> None:
        self._paint()
        self.post_message(self.Moved())

    def on_blur(self) -> None:
        self._paint()

    def on_resize(self, event: events.Resize) -> None:
        self._needs.forget(list(self._all.values()))
        self._paint()

    # ---- how it is done

    @property
    def _room(self) -> int:
        return max(self.size.height - HEAD, 0)

    def _sort_by(self, column: int | None) -> None:
        self.view = replace(self.view, column=column)
        self._arrange()
        self.post_message(self.Sorted(self))

    def _go(self, place: int) -> None:
        self._cursor = min(max(place, 0), max(len(self._rows) - 1, 0))
        self._paint()
        self.post_message(self.Moved())

    def _arrange(self) -> None:
        """Puts the rows in order; the cursor stays on its row, or where that was if it is gone."""
        selected = self.selected
        self._rows = arrange(list(self._all.values()), self.view)
        places = {row.id: place for place, row in enumerate(self._rows)}
        place = places.get(selected, self._cursor)
        self._cursor = min(place, max(len(self._rows) - 1, 0))
        self._paint()

    def _mark(self, new: dict[Hashable, Row], now_s: float) -> None:
        marks: dict[Hashable, dict[int, tuple[float, str]]] = {}
        for row, known in self._marks.items():
            left = {i: mark for i, mark in known.items() if mark[0] > now_s}
            if left and row in new:
                marks[row] = left
        self._marks = marks
        if not self._all:
            return
        until = now_s + MARK_S
        for row in new.values():
            before = self._all.get(row.id)
            if before is None:
                marks[row.id] = dict.fromkeys(range(len(row.cells)), (until, "new"))
            elif before.cells is not row.cells and (places := changed(self._worth_a_mark, before, row)):
                marks[row.id] = {**marks.get(row.id, {}), **dict.fromkeys(places, (until, "mark"))}

    def _paint(self) -> None:
        width = self.size.width
        if not width or not self.size.height or not self._title:
            return
        self._scroll()
        self._widths = self._needs.in_room(width - 2)
        lines = list(self._head_lines(width))
        if self._rows:
            shown = range(self._top, min(self._top + self._room, len(self._rows)))
            before, self._drawn = self._drawn, {}
            lines += [self._row_line(place, width, before) for place in shown]
        else:
            lines += self._notice_lines()
        self.draw(lines)

    def _scroll(self) -> None:
        """Keeps the cursor in sight and the pane full."""
        room = max(self._room, 1)
        self._top = min(self._top, self._cursor, max(len(self._rows) - room, 0))
        self._top = max(self._top, self._cursor - room + 1, 0)

    def _head_lines(self, width: int) -> list[Line]:
        """The title and the headings. The first item of the title is the pane's name; it shows where the focus is."""
        name, *rest = self._title
        if self.has_focus:
            name = Item(0, tuple(Span(text, "title.focus") for text, _ in name.line))
        left, right = [name, *rest], self._title_items()
        key = (left, right, self._widths, self.view, width)
        headings = partial(heading, self._columns, self._widths, self.view)
        return self._heads.of(key, lambda: [spread(left, right, width), self._indented(headings(), width)])

    def _title_items(self) -> list[Item]:
        items = []
        if self.view.filter:
            found = f"{len(self._rows)} of {len(self._all)}"
            items.append(Item(0, (Span(f"/{self.view.filter}", "warning"), Span(f"  {found}", "dim"))))
        if len(self._rows) > self._room:
            seen = f"{self._top + 1}–{min(self._top + self._room, len(self._rows))} of {len(self._rows)}"
            items.append(Item(1, (Span(seen, "dim"),)))
        return items

    def _row_line(self, place: int, width: int, before: Mapping[Hashable, tuple[object, Line]]) -> Line:
        """Return the line of a row, the same object as `before` if nothing in it has changed."""
        row = self._rows[place]
        marked, mark = self._marks_of(row)
        cursor = "" if place != self._cursor else "cursor" if self.has_focus else "cursor.blur"
        looks = [cell[:2] for cell in row.cells]
        key = (looks, marked, mark, cursor, self._widths, width)
        known = before.get(row.id)
        if known is None or known[0] != key:
            line = self._indented(row_line(self._columns, self._widths, row, marked, mark), width)
            known = key, under(line, cursor) if cursor else line
        self._drawn[row.id] = known
        return known[1]

    def _marks_of(self, row: Row) -> tuple[frozenset[int], str]:
        marks = self._marks.get(row.id)
        if not marks:
            return NO_MARKS, ""
        return frozenset(marks), "new" if any(kind == "new" for _, kind in marks.values()) else "mark"

    def _notice_lines(self) -> list[Line]:
        width = self.size.width
        if self.view.filter and self._all:
            return [
                self._indented((Span(f"Nothing matches {self.view.filter}; Esc clears the filter.", "dim"),), width)
            ]
        return [self._indented((Span(text),), width) for notice in self._notice for text in wrapped(notice, width - 2)]

    @staticmethod
    def _indented(line: Line, width: int) -> Line:
        return fill((Span(" "), *line), width)
