"""The source of semtrace as the tests look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below a node, those in functions too. `ast.walk` takes three times as long."""
    for name in _BLOCKS:
        for each in getattr(node, name, ()):
            yield each
            yield from statements(each)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
