"""Whether a user's key map can be what was meant: a mistake in it would take a key from a command without a word."""

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
    "l": "changes the rows of the timeline",
    **dict.fromkeys(("left", "right", "shift+left", "shift+right", "h"), "moves the cursor of the timeline"),
    **dict.fromkeys(("less_than_sign", "greater_than_sign", "z", "Z"), "zooms the timeline"),
}
# What these do in sheets goes well with what they do elsewhere.
SHARED = {"q": "quit", "enter": "choose", "tab": "next", "backspace": "back", "y": "copy"}
MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")


def check(keymap: Keymap) -> None:
    """Raises UsageError for a command or a key that there is not, and for two commands on one key."""
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
    """The overview has all commands at once, so no two may share a key."""
    of: dict[str, str] = {}
    for key, name in _all_keys(keymap):
        other = of.setdefault(key, name)
        if other != name:
            changed, there = (name, other) if name in keymap else (other, name)
            raise UsageError(f"[keys]: {key!r} is to be {changed}, but it is {there} already", f"give {there} another")
        if name in keymap and key in FIXED:
            raise UsageError(f"[keys]: {key!r} is to be {name}, but it {FIXED[key]}", "choose another key")
        if name in keymap and SHARED.get(key, name) != name:
            raise UsageError(f"[keys]: {key!r} is to be {name}, but sheets have it for {SHARED[key]}", "choose another")


def _all_keys(keymap: Keymap) -> Iterator[tuple[str, str]]:
    for name in COMMANDS:
        for key in keys_of(name, keymap):
            yield normal(key), name


def normal(key: str) -> str:
    """As Textual names it: `?` is `question_mark`."""
    key = key.strip()
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    return "+".join([*sorted(modifiers), _character_to_key(last) if len(last) == 1 else last])


def is_key(key: str) -> bool:
    """Textual (8.2.8, keys.py) knows the names of signs by Unicode, and those of `Keys`."""
    *modifiers, last = normal(key).split("+")
    if not all(modifier in MODIFIERS for modifier in modifiers):
        return False
    return len(last) == 1 or last in _NAMES


def _names() -> Iterator[str]:
    yield from (key.value for key in Keys if not key.value.startswith("<"))
    yield from (f"f{number}" for number in range(1, 25))
    yield from (_character_to_key(chr(code)) for code in range(0x20, 0x7F))


_NAMES = frozenset(_names())
