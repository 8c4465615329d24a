"""Every command of the live view: its keys, its word in the footer, its line in the help. All bindings come from here.

F-keys are where htop has the like; each has a letter too. Nothing that acts is on a letter that means moving elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from textual.binding import Binding, BindingType
from textual.keys import _character_to_key
from textual.screen import Screen
from textual.widget import Widget

from semtrace.tui.text.line import Item, Line, Span, spread


class Command(NamedTuple):
    """`keys` are Textual's names, the one to show first. Where the footer has no room, those of the highest `order` go
    first. `action` is what Textual runs, by default the method of that name. `where` is the view that alone has it.
    """

    keys: tuple[str, ...]
    word: str
    help: str
    order: int = 5
    action: str = ""
    priority: bool = False
    where: str = ""


COMMANDS: dict[str, Command] = {
    "help": Command(("question_mark", "f1"), "help", "the keys and the signs", 0, "app.view('help')"),
    "settings": Command(
        ("comma", "f2"), "settings", "what is set, where, and what else could be", 12, "app.view('settings')"
    ),
    "findings": Command(
        ("f", "f3"),
        "findings",
        "what is wrong, the evidence and the remedy; Enter there goes to the row",
        3,
        "app.view('findings')",
    ),
    # With priority it acts before the keys after it are on their way to the pane: what is typed ahead is text.
    "filter": Command(
        ("slash", "f4"),
        "filter",
        "filter the rows: text anywhere in a row; !text shows the others; Esc clears",
        6,
        priority=True,
    ),
    "blocking": Command(("w", "f5"), "blocking", "which thread blocks which, as a tree", 1, "app.view('blocking')"),
    "sort": Command(("s", "f6"), "sort", "sort by the next column; also a click on its heading", 8),
    "reverse": Command(("r",), "reverse", "reverse the order", 20),
    "unsort": Command(("0",), "natural order", "the natural order again: what is wrong, then what is old", 20),
    "timeline": Command(
        ("t", "f7"), "timeline", "the last minute: who held and waited when", 1, "app.view('timeline')"
    ),
    "events": Command(("e", "f8"), "events", "the events of traced locks as they come", 4, "app.view('events')"),
    "release": Command(
        ("R", "f9"), "release", "on an orphaned lock: the evidence, and the question whether to release it", 0
    ),
    "quit": Command(("q", "f10"), "quit", "quit; in a sheet q goes back", 0, "app.quit"),
    "next": Command(("tab",), "pane", "the next pane; also a click", 7, "app.focus_next"),
    "choose": Command(("enter",), "details", "everything known about the row, with the Python stacks", 5),
    "problems": Command(("p",), "problems", "what could not be read, and the remedy", 13, "app.view('problems')"),
    "signals": Command(
        ("a",), "signals", "show or hide signals: the semaphores inside Conditions, Events and Queues", 14
    ),
    "layout": Command(
        ("L",), "layout", "another layout of the panes: which come first, and which are shown; it is kept", 14
    ),
    "lower": Command(
        ("B",),
        "lower pane",
        "below the tables: the worst finding first or the timeline first, or nothing; it is kept",
        14,
    ),
    "output": Command(("o",), "output", "show or hide the output of a server started by semtrace run", 9),
    "copy": Command(
        ("y",), "copy", "copy the row; in a sheet or the timeline its text (OSC 52: also through ssh)", 11, "app.copy"
    ),
    "save": Command(
        ("S",), "save", "save the screen as SVG and the snapshot as JSON, and say in which folder", 15, "app.save"
    ),
    "record": Command(
        ("C",),
        "record",
        "start or stop a recording into a new file, and say where that is",
        15,
        "app.record",
    ),
    "pause": Command(("space",), "pause", "keep this snapshot; collecting goes on", 9, "app.pause"),
    "slower": Command(("plus", "equals_sign"), "slower", "a longer time between two snapshots", 20, "app.slower"),
    "faster": Command(("minus",), "faster", "a shorter time between two snapshots", 20, "app.faster"),
    "about": Command(("i",), "about", "what the screens show, and the story of a demo", 14, "app.view('about')"),
    "dismiss": Command(
        ("X",), "dismiss", "dismiss the line that explains the screen, for good", 20, "hide_introduction"
    ),
    "palette": Command(
        ("colon", "ctrl+p"),
        "commands",
        "find a command by its words and those of its help",
        16,
        "app.command_palette",
        priority=False,
    ),
    "back": Command(("escape", "b"), "back", "out of a filter, a sheet; then to the list of servers, if several", 1),
    "play": Command(("space",), "play", "play, or stand still", 1, "app.pause", where="recording"),
    "play_slower": Command(("less_than_sign",), "slower", "play more slowly", 9, "app.speed(-1)", where="recording"),
    "play_faster": Command(
        ("greater_than_sign",), "faster", "play faster, to 100 times", 9, "app.speed(1)", where="recording"
    ),
    "step_back": Command(("left_square_bracket",), "step", "the snapshot before", 1, "app.step(-1)", where="recording"),
    "step_on": Command(("right_square_bracket",), "step", "the next snapshot", 1, "app.step(1)", where="recording"),
    "skip_back": Command(("left_curly_bracket",), "10 s", "ten seconds back", 3, "app.skip(-10)", where="recording"),
    "skip_on": Command(("right_curly_bracket",), "10 s", "ten seconds on", 3, "app.skip(10)", where="recording"),
    "seek": Command(
        ("T",), "go to", "go to a time that you type; also a click on the bar", 2, "app.seek", where="recording"
    ),
    "event_back": Command(("N",), "finding", "to the finding or death before", 2, "app.event(-1)", where="recording"),
    "event_on": Command(("n",), "finding", "to the next finding or death", 2, "app.event(1)", where="recording"),
    "rows": Command(
        ("l", "tab"),
        "workers/locks",
        "a row for each worker, or for each lock",
        1,
        "switch",
        where="timeline",
    ),
    "closer": Command(
        ("less_than_sign", "z"),
        "zoom",
        "a shorter time, to half a second",
        1,
        "zoom(-1)",
        where="timeline",
    ),
    "wider": Command(
        ("greater_than_sign", "Z"),
        "zoom",
        "a longer time, to ten minutes",
        1,
        "zoom(1)",
        where="timeline",
    ),
    "earlier": Command(
        ("left", "h"),
        "cursor",
        "move the cursor a cell back; it shows who and from when to when",
        2,
        "cell(-1)",
        where="timeline",
    ),
    "later": Command(("right",), "cursor", "a cell on", 2, "cell(1)", where="timeline"),
    "leap_back": Command(("pageup", "shift+left"), "leap back", "a tenth of it back", 9, "tenth(-1)", where="timeline"),
    "leap_on": Command(("pagedown", "shift+right"), "leap on", "a tenth of it on", 9, "tenth(1)", where="timeline"),
    "beginning": Command(("home",), "beginning", "as far back as is known", 9, "first", where="timeline"),
    "now": Command(("end", "G"), "now", "on with the time", 2, "follow", where="timeline"),
    "worst": Command(("s", "f6"), "worst first", "sort the rows, the worst first", 6, "worst", where="timeline"),
}

# Textual's names of keys, as they stand on a keyboard.
_NAMES = {
    **{_character_to_key(sign): sign for sign in map(chr, range(0x21, 0x7F))},
    "space": "Space",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
}

Keymap = Mapping[str, str]  # the id of a command: Textual's names of its keys, separated by commas


def bindings(*ids: str) -> list[BindingType]:
    """Return bindings for a class's BINDINGS. The id lets a user's key map reach them."""
    return [_binding(each, COMMANDS[each]) for each in ids]


def keys_of(name: str, keymap: Keymap) -> tuple[str, ...]:
    """The keys of a command as Textual calls them, the user's if there are any."""
    return tuple(keymap[name].split(",")) if name in keymap else COMMANDS[name].keys


@cache
def shown(key: str) -> str:
    """A key as it stands on a keyboard: `question_mark` is `?`, `ctrl+p` is `Ctrl-P`."""
    key = key.strip()
    if key.startswith("shift+"):
        return f"Shift-{shown(key[6:])}"
    if key.startswith("ctrl+"):
        return f"Ctrl-{shown(key[5:]).upper()}"
    return _NAMES.get(key, key.upper() if len(key) > 1 and key[0] == "f" and key[1:].isdigit() else key)


def footer(ids: Iterable[str], keymap: Keymap, more: Sequence[Item] = ()) -> list[Item]:
    """The words of commands, for `spread`; a click on one does it."""
    there = {name for item in more for span in item.line for name in span.style.split()}
    return [*more, *(hint_of(each, keymap) for each in ids if f"@{each}" not in there)]


def hint_of(name: str, keymap: Keymap, **changes: Any) -> Item:
    """Return a command as the footer shows it, in other words if need be."""
    command = COMMANDS[name]._replace(**changes) if changes else COMMANDS[name]
    return hint(shown(keys_of(name, keymap)[0]), command, name)


def pair(one: str, other: str, keymap: Keymap) -> Item:
    """Two that belong together under the word of the first: `< > zoom`."""
    spans = [Span(shown(keys_of(name, keymap)[0]), f"key @{name}") for name in (one, other)]
    command = COMMANDS[one]
    return Item(command.order, (spans[0], Span(" "), spans[1], Span(f" {command.word}", f"dim @{one}")))


@lru_cache(maxsize=256)
def hint(key: str, command: Command, name: str) -> Item:
    span = f"@{name}"
    return Item(command.order, (Span(key, f"key {span}"), Span(f" {command.word}", f"dim {span}")))


def footer_line(items: Sequence[Item], width: int) -> Line:
    """Return the line of these items. A footer hardly ever changes, so the lines drawn last are kept."""
    return _footer_line(tuple(items), width)


@lru_cache(maxsize=16)
def _footer_line(items: tuple[Item, ...], width: int) -> Line:
    return spread(items, (), width)


def help_lines(keymap: Keymap, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield keys and help of the commands that every view has, or of those that one view alone has."""
    for name, command in COMMANDS.items():
        if command.where == where:
            yield " ".join(map(shown, keys_of(name, keymap))), command.help


def action_of(name: str) -> str:
    """Return the action that Textual runs for the command."""
    return COMMANDS[name].action or name


async def perform(screen: Screen[Any], name: str) -> None:
    """Do what the key would do: run the action of the widget nearest to the focus that has it."""
    action = action_of(name)
    nodes = list(screen.focused.ancestors_with_self) if screen.focused else [screen]
    able = (each for each in nodes if isinstance(each, Widget) and hasattr(each, f"action_{action}"))
    await next(able, screen).run_action(action)


def _binding(name: str, command: Command) -> Binding:
    keys = ",".join(command.keys)
    return Binding(keys, action_of(name), show=False, priority=command.priority, id=name)
