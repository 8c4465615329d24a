"""The health of the servers in the list: one is looked at after the other, in a thread, each again after a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from semtrace.errors import SemtraceError
from semtrace.model import ProcessId, Server
from semtrace.rules.headline import Headline

AGAIN_S = 10.0

Examine = Callable[[Server], Headline]


class HealthBook:
    """Keeps the last answer for each server. `look` is for its own thread: an unhealthy server takes two seconds."""

    def __init__(self, servers: Callable[[], Sequence[Server]], examine: Examine) -> None:
        self._servers = servers
        self._examine = examine
        self._known: dict[ProcessId, tuple[float, Headline | None]] = {}

    def look(self) -> Mapping[ProcessId, Headline | None]:
        """Look at the server whose answer is the oldest, if one is due, and return all answers: None where a server
        cannot be read or has ended.
        """
        servers, now_s = self._servers(), time.monotonic()
        self._known = {each.id: self._known[each.id] for each in servers if each.id in self._known}
        waiting = [each for each in servers if now_s - self._asked_s(each) >= AGAIN_S]
        if waiting:
            server = min(waiting, key=self._asked_s)
            try:
                answer = self._examine(server)
            except SemtraceError:
                answer = None
            self._known[server.id] = time.monotonic(), answer
        return {process: answer for process, (_, answer) in self._known.items()}

    def _asked_s(self, server: Server) -> float:
        return self._known[server.id][0] if server.id in self._known else -AGAIN_S
