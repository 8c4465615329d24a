"""The palette's commands, found by the words of their help as well as by their names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from semtrace.tui import commands
from semtrace.tui.screens.view import View


class Choice(NamedTuple):
    """A command as the palette shows it: its word and keys, and what it does."""

    name: str
    shown: str
    help: str


def choices(keymap: commands.Keymap, where: str) -> Iterator[Choice]:
    """`where` is the view that is shown: others have their own."""
    for name, command in commands.COMMANDS.items():
        if name != "palette" and command.where in ("", where):
            keys = " ".join(map(commands.shown, commands.keys_of(name, keymap)))
            yield Choice(name, f"{command.word}  {keys}", command.help)


def score(query: str, choice: Choice) -> float:
    """Return how well a command fits, 0 if a word of the query is nowhere. A command's own word counts most, and the
    beginning of a word more than its middle.
    """
    name, described = choice.shown.lower(), f"{choice.name} {choice.help}".lower()
    words = query.lower().split()
    if not words or not all(word in f"{name} {described}" for word in words):
        return 0.0
    return sum(
        8.0 if name.startswith(word) else 4.0 if word in name else 2.0 if f" {word}" in f" {described}" else 1.0
        for word in words
    )


class Finder(Provider):
    """Performs commands on the screen below the palette, which has gone by then."""

    async def discover(self) -> Hits:
        for choice in self._choices():
            yield DiscoveryHit(choice.shown, partial(self._perform, choice.name), help=choice.help)

    async def search(self, query: str) -> Hits:
        for choice in self._choices():
            worth = score(query, choice)
            if worth:
                shown = Text(choice.shown)
                shown.highlight_words(query.split(), "bold underline", case_sensitive=False)
                yield Hit(worth, shown, partial(self._perform, choice.name), text=choice.shown, help=choice.help)

    def _choices(self) -> Iterator[Choice]:
        return choices(self.app._keymap, self.screen.key if isinstance(self.screen, View) else "")

    async def _perform(self, name: str) -> None:
        await commands.perform(self.app.screen, name)
