"""What the reading threads tell the screens. Of several that wait, the last one counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import ProcessId, Server, Snapshot
from semtrace.rules.headline import Headline


class Latest(Message):
    """A message that one of its own kind, not yet looked at, makes superfluous."""

    def can_replace(self, message: Message) -> bool:
        return type(message) is type(self)


class Pictured(Latest):
    """A new snapshot of the server."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class Listed(Latest):
    """The servers that run now."""

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__()
        self.servers = servers


class Examined(Latest):
    """What is known of the health of the servers; None where one cannot be read."""

    def __init__(self, health: Mapping[ProcessId, Headline | None]) -> None:
        super().__init__()
        self.health = health


class Failed(Latest):
    """It could not be read; the thread tries again."""

    def __init__(self, error: SemtraceError) -> None:
        super().__init__()
        self.error = error


class Broken(Message):
    """A bug of ours ended the reading thread."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
