"""gunicorn: its master is recognised by what it always has, whatever its command line and title are.

These are handlers for all the signals of gunicorn/arbiter.py, and its workers' heartbeat files. If they may not be
read, its command line or title decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semtrace.linux import program
from semtrace.linux.descriptors import listening, socket_inodes
from semtrace.linux.process import Stat, read_stat
from semtrace.model import Server
from semtrace.servers import gunicorn_options, processes
from semtrace.servers.addresses import addresses
from semtrace.servers.commandline import readable
from semtrace.servers.gunicorn_memory import effective
from semtrace.servers.gunicorn_roles import handles_like_master
from semtrace.servers.heartbeat import heartbeat_files
from semtrace.servers.installed import version_of
from semtrace.servers.kinds.kind import Kind
from semtrace.servers.lineage import lineage

_CONTROL_SOCKET = "/gunicorn.ctl"


def is_master(stat: Stat) -> bool:
    pid = stat.id.pid
    status = program.read_status(pid)
    if status is None or not handles_like_master(status):
        return False
    now = read_stat(pid)
    if now is None or now.id != stat.id or now.ended or not _looks_like_master(pid):
        return False
    # Its handlers may have been a fork's of a master, right before an exec, and the rest from after that.
    status = program.read_status(pid)
    if status is None or not handles_like_master(status):
        return False
    # What a master forked for itself has inherited all the signs; the master is the first of them.
    for ancestor in lineage(now)[1:]:
        above = program.read_status(ancestor.id.pid)
        if above is not None and handles_like_master(above):
            return False
    return True


def _looks_like_master(pid: int) -> bool:
    files = heartbeat_files(pid)
    if files:
        return True
    if is_named_so(processes.cmdline(pid)):
        return True
    # Another user's, started by a script of another name: no other Python program handles all ten signals.
    return files is None and processes.is_python(pid) is True


def is_named_so(command: Sequence[str]) -> bool:
    """Return True for the command line of a gunicorn, or the title of a master, which it has before its workers."""
    return _arguments(command) is not None


def _arguments(command: Sequence[str]) -> tuple[str, ...] | None:
    found = gunicorn_options.arguments(command)
    return () if found is None and " ".join(command).startswith("gunicorn: master") else found


def describe(stat: Stat) -> Server:
    pid = stat.id.pid
    command = processes.cmdline(pid)
    title = " ".join(command)
    titled = title.startswith("gunicorn: ")
    arguments = gunicorn_options.arguments(command)
    settings = gunicorn_options.Settings()
    if arguments is not None:
        settings = gunicorn_options.settings(arguments, processes.environ(pid), _has_config_file(pid))
    server = Server(
        kind="gunicorn",
        id=stat.id,
        title=title if titled else readable(command) or stat.comm,
        started_at=stat.started_at,
        user=processes.user_name(pid),
        version=version_of(pid, "gunicorn"),
        application=gunicorn_options.application_of_title(title) if titled else settings.application,
        bind=addresses(stat, but=_CONTROL_SOCKET),
        worker_class=settings.worker_class,
        timeout_s=settings.timeout_s,
    )
    return effective(server)


def control_socket(server: Server) -> str | None:
    """Return the master's socket for gunicornc (gunicorn/ctl, since 25.1), as the kernel shows it; None without one."""
    options = gunicorn_options.parse(gunicorn_options.arguments(processes.cmdline(server.pid)) or ())
    named = options.control_socket if options else None
    for address in listening(server.pid, socket_inodes(server.pid)).values():
        path = address.removeprefix("unix:")
        if path.startswith("/") and (path.endswith(_CONTROL_SOCKET) or (named and path.endswith(named))):
            return path
    return None


def _has_config_file(pid: int) -> bool | None:
    """Return True if its directory has a `gunicorn.conf.py`, which gunicorn reads by default; None if unknown."""
    try:
        Path(f"/proc/{pid}/cwd/gunicorn.conf.py").stat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


GUNICORN = Kind(
    name="gunicorn",
    distribution="gunicorn",
    forms=(),
    alone=True,
    listens=True,
    read_command=_arguments,
    is_root=is_master,
    describe=describe,
)
