"""Messages from the reading threads to the screens. If several wait, the last one counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import ProcessId, Server, Snapshot
from semtrace.rules.headline import Headline


class Latest(Message):
    """A message that replaces one of its own kind that is not handled yet."""

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
    """The health of the servers as far as it is known; None for a server that cannot be read."""

    def __init__(self, health: Mapping[ProcessId, Headline | None]) -> None:
        super().__init__()
        self.health = health


class Failed(Latest):
    """The server could not be read; the thread tries again."""

    def __init__(self, error: SemtraceError) -> None:
        super().__init__()
        self.error = error


class Broken(Message):
    """A bug of ours ended the reading thread."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
