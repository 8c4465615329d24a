"""All servers under watch, as they come and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from semtrace.errors import NoServer, NotPermitted
from semtrace.linux.process import read_stat
from semtrace.metrics.labels import server_labels
from semtrace.metrics.reading import Reading
from semtrace.metrics.watch import Watch
from semtrace.model import ProcessId, Server
from semtrace.servers import discovery

# A thread each; more servers than these are not one machine's.
MOST_SERVERS = 100
_END_S = 2.0


class Fleet:
    """Watch what `find` finds. Not for several threads at once."""

    def __init__(self, find: Callable[[], Iterable[Server]], watch: Callable[[Server], Watch]) -> None:
        self._find, self._watch = find, watch
        self._watches: dict[ProcessId, Watch] = {}
        self.refused = 0  # servers above MOST_SERVERS

    def scan(self) -> None:
        """Begin to watch new servers. What is known of the others, as the addresses they listen on, is updated."""
        self._forget_ended()
        self.refused = 0
        for server in self._find():
            if server.id in self._watches:
                self._watches[server.id].server = server
            elif len(self._watches) < MOST_SERVERS:
                self._watches[server.id] = watch = self._watch(server)
                watch.start()
            else:
                self.refused += 1

    def readings(self) -> dict[str, Reading]:
        """Return the newest reading of each server that lives, by its label."""
        self._forget_ended()
        labels = server_labels(watch.server for watch in self._watches.values())
        return {labels[server]: watch.reading for server, watch in self._watches.items() if watch.reading is not None}

    def __len__(self) -> int:
        self._forget_ended()
        return len(self._watches)

    def stop(self) -> None:
        """End all threads; those that hang are left behind."""
        for watch in self._watches.values():
            watch.stop()
        deadline_s = time.monotonic() + _END_S
        for watch in self._watches.values():
            watch.join(max(deadline_s - time.monotonic(), 0.0))

    def _forget_ended(self) -> None:
        for server in [server for server, watch in self._watches.items() if watch.ended]:
            del self._watches[server]


def of_pids(pids: Sequence[int]) -> Callable[[], list[Server]]:
    """Return what finds the servers that these processes belong to now, as long as they live. Raises SemtraceError.

    Another process that gets the number of one of them later is not watched.
    """
    servers = {server.id: server for server in map(discovery.server_of, pids)}

    def find() -> list[Server]:
        return [found for server in servers.values() if (found := _again(server)) is not None]

    return find


def _again(server: Server) -> Server | None:
    """Return it as it is now, None if it has ended."""
    stat = read_stat(server.pid)
    if stat is None or stat.id != server.id or stat.ended:
        return None
    with suppress(NoServer, NotPermitted):
        found = discovery.server_of(server.pid)
        return found if found.id == server.id else server
    return server
