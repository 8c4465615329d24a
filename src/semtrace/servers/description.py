"""Description of a server: its name, its application and its addresses, from its root and its kind."""

from __future__ import annotations

import re

from semtrace.linux.process import Stat
from semtrace.model import Server
from semtrace.servers import processes
from semtrace.servers.addresses import addresses
from semtrace.servers.commandline import readable
from semtrace.servers.installed import version_of
from semtrace.servers.kinds.kind import Kind

_INTERPRETER_VERSION = re.compile(r"(?:python|pypy)(\d+\.\d+)")


def describe(stat: Stat, kind: Kind | None) -> Server:
    """Return the server with this root. Without a kind it is any other Python server."""
    if kind is None:
        return _python(stat)
    return kind.describe(stat) if kind.describe else _of_kind(stat, kind)


def _of_kind(stat: Stat, kind: Kind) -> Server:
    pid = stat.id.pid
    command = processes.cmdline(pid)
    arguments = kind.arguments(command)
    return Server(
        kind=kind.name,
        id=stat.id,
        title=readable(command) or stat.comm,
        started_at=stat.started_at,
        user=processes.user_name(pid),
        version=version_of(pid, kind.distribution),
        application=kind.application(arguments) if arguments else None,
        bind=addresses(stat) if kind.listens else (),
    )


def _python(stat: Stat) -> Server:
    pid = stat.id.pid
    found = _INTERPRETER_VERSION.search((processes.executable(pid) or "").rpartition("/")[2])
    return Server(
        kind="python",
        id=stat.id,
        title=readable(processes.cmdline(pid)) or stat.comm,
        started_at=stat.started_at,
        user=processes.user_name(pid),
        version=found[1] if found else None,
    )
