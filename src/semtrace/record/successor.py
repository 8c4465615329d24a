"""Find a server again that was restarted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from semtrace.model import ProcessId, Server


def successors(server: Server, running: Iterable[Server], known: Collection[ProcessId]) -> Sequence[Server]:
    """Return the servers that may be this one, restarted: another process tree of the same kind and user, with the same
    application and addresses. Several are no answer: two servers may run the same application.
    """
    return [each for each in running if each.id not in known and _identity(each) == _identity(server)]


def _identity(server: Server) -> tuple[object, ...]:
    """A PID does not outlast a restart, and a title, a version or an option may change with it."""
    return server.kind, server.user, server.application, frozenset(server.bind)
