"""Checks of a user's key map: a mistake in it would silently take a key from a command."""

from __future__ import annotations

from collections.abc import Iterator

from textual.keys import Keys, _character_to_key

from semtrace.errors import UsageError
from semtrace.tui.commands import COMMANDS, Keymap, keys_of

# Keys that screens have for themselves, and what for. The map does not reach them.
FIXED = {
    "ctrl+c": "leaves",
    **dict.fromkeys(("up", "k", "down", "j", "pageup", "pagedown", "home", "g", "end", "G"), "moves the cursor"),
    **dict.fromkeys(map(str, range(1, 10)), "leads on from the details"),
    "u": "holds the stacks in the details",
}
# What these do in sheets goes well with what they do elsewhere.
SHARED = {"q": "quit", "enter": "choose", "tab": "next", "backspace": "back", "y": "copy"}
# What the views without a table do not have.
OF_TABLES = {"sort", "reverse", "filter", "choose", "next", "signals", "output"}
MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")


def check(keymap: Keymap) -> None:
    """Raise UsageError for an unknown command, an unknown key, and for two commands on one key."""
    for name, keys in keymap.items():
        if name not in COMMANDS:
            raise UsageError(f"[keys]: there is no command {name!r}", f"there are: {', '.join(COMMANDS)}")
        for key in keys.split(","):
            if not is_key(key):
                raise UsageError(
                    f"[keys]: {name} = {key!r}: there is no such key",
                    "a letter or sign, or a name such as f5, space, enter, pageup, ctrl+x, question_mark",
                )
    _check_clashes(keymap)


def _check_clashes(keymap: Keymap) -> None:
    of: dict[str, list[str]] = {}
    for key, name in _all_keys(keymap):
        for other in of.setdefault(key, []):
            if _clash(key, name, other):
                changed, there = (name, other) if name in keymap else (other, name)
                what = f"[keys]: {key!r} is to be {changed}, but it is {there} already"
                raise UsageError(what, f"give {there} another")
        of[key].append(name)
        if name in keymap and key not in COMMANDS[name].keys:
            _check_fixed(key, name)


def _clash(key: str, name: str, other: str) -> bool:
    """Return True if there is a screen on which one of the two could not be reached."""
    one, two = COMMANDS[name], COMMANDS[other]
    if name == other or (one.where != two.where and {name, other} & OF_TABLES):
        return False
    return one.where == two.where or not (key in one.keys and key in two.keys)  # as it comes they go together


def _check_fixed(key: str, name: str) -> None:
    if key in FIXED:
        raise UsageError(f"[keys]: {key!r} is to be {name}, but it {FIXED[key]}", "choose another key")
    if SHARED.get(key, name) != name:
        raise UsageError(f"[keys]: {key!r} is to be {name}, but sheets have it for {SHARED[key]}", "choose another")


def _all_keys(keymap: Keymap) -> Iterator[tuple[str, str]]:
    for name in COMMANDS:
        for key in keys_of(name, keymap):
            yield normal(key), name


def normal(key: str) -> str:
    """Return the key as Textual names it: `?` is `question_mark`."""
    key = key.strip()
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    return "+".join([*sorted(modifiers), _character_to_key(last) if len(last) == 1 else last])


def is_key(key: str) -> bool:
    """Return True for a key that Textual (8.2.8, keys.py) knows: Unicode names of signs, and names in `Keys`."""
    *modifiers, last = normal(key).split("+")
    if not all(modifier in MODIFIERS for modifier in modifiers):
        return False
    if len(last) == 1 and (modifiers == ["shift"] or ("ctrl" in modifiers and last.isupper())):
        return False  # a terminal sends `A` for the one, and the same as without Shift for the other
    return len(last) == 1 or last in _NAMES


def _names() -> Iterator[str]:
    yield from (key.value for key in Keys if not key.value.startswith("<"))
    yield from (f"f{number}" for number in range(1, 25))
    yield from (_character_to_key(chr(code)) for code in range(0x20, 0x7F))


_NAMES = frozenset(_names())
