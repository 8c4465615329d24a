"""The server that semtrace itself started, as the live view knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Child(Protocol):
    """`leave` is what the user decided; `output` are the lines since the last call."""

    leave: bool
    log: Path

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    @property
    def exit_code(self) -> int: ...

    def output(self) -> list[str]: ...
