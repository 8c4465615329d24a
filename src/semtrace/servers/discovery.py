"""Finding servers, in one path: a PID, its process, the root of its family, the kind of that root, its settings.

`find_servers` asks all processes of the machine, `server_of` one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from signal import Signals

from semtrace.errors import NoServer, NotPermitted, SeveralServers
from semtrace.linux import program
from semtrace.linux.process import Stat, children, process_ids, read_stat
from semtrace.linux.rights import remedy
from semtrace.model import Server
from semtrace.model.server import ServerKind
from semtrace.servers import kinds, processes, sharing
from semtrace.servers.description import describe
from semtrace.servers.firstthread import runs_any
from semtrace.servers.kinds import KINDS
from semtrace.servers.kinds.gunicorn import GUNICORN
from semtrace.servers.kinds.kind import Kind
from semtrace.servers.lineage import lineage, related

_START_ONE = "start one (gunicorn myapp:app), or name any other Python server: semtrace PID"
_NAME_ONE = "give the PID of a server (`semtrace ps` lists them) or of any Python process (pgrep -a python)"
_LIST_THEM = "`semtrace ps` lists the servers of this machine"


def find_servers(only: Collection[ServerKind] = ()) -> tuple[Server, ...]:
    """Return the pre-forked servers of this machine, or those of some kinds, oldest first. After USR2 the old and the
    new master of gunicorn are two servers.
    """
    table = _processes()
    roots: dict[int, tuple[Stat, Kind | None]] = {}
    for stat in table.values():
        kind = _kind(stat, only)
        if kind is not None and _is_first(stat, kind) and (kind.alone or _has_child(stat, table.values())):
            roots[stat.id.pid] = stat, kind
    if not only or "python" in only:
        roots |= {stat.id.pid: (stat, None) for stat in sharing.roots(table, roots.keys())}
    found = sorted(roots.values(), key=lambda each: (each[0].id.start_ticks, each[0].id.pid))
    return tuple(describe(stat, kind) for stat, kind in found)


def gunicorns() -> tuple[Server, ...]:
    """Return every gunicorn of this machine: these are watched if the user names no server."""
    return find_servers((GUNICORN.name,))


def server_of(pid: int) -> Server:
    """Return the server of this process: of a known kind, one that it launched, or its tree of forked Pythons."""
    stat = _living(pid)
    family = lineage(stat)
    for ancestor in reversed(family):
        if (kind := _kind(ancestor)) is not None:
            return describe(ancestor, kind)
    python = processes.is_python(stat.id.pid)
    if python is None:
        _living(pid)  # who ends meanwhile loses its memory first, and cannot be read for that
        user = processes.user_name(stat.id.pid)
        raise NotPermitted(
            f"process {pid} ({stat.comm}) of {user} cannot be read, so it is not known whether it is Python",
            remedy(pid),
        )
    if not python:
        raise NoServer(f"process {pid} ({stat.comm}) is not a Python process", _server_below(stat) or _NAME_ONE)
    return _launched(stat) or describe(family[-1], None)


def choose(pid: int | None) -> Server:
    """Return the server of that process. Without a PID, return the only server of this machine."""
    if pid is not None:
        return server_of(pid)
    servers = find_servers()
    if not servers:
        raise NoServer("no pre-forked Python server is running on this machine", _START_ONE)
    if len(servers) > 1:
        listed = ", ".join(f"{server.pid} ({server.title})" for server in servers)
        raise SeveralServers(
            f"{len(servers)} servers are running: {listed}",
            f"give the PID of one, for example {servers[0].pid}",
            tuple(server.pid for server in servers),
        )
    return servers[0]


def _living(pid: int) -> Stat:
    status = program.read_status(pid) if pid > 0 else None
    stat = read_stat(status.tgid) if status else None  # a thread's id is as good as its process's
    if stat is None:
        raise NoServer(f"there is no process {pid}", _LIST_THEM)
    if stat.ended:
        raise NoServer(f"process {pid} ({stat.comm}) has ended and waits only for its parent to notice", _LIST_THEM)
    if program.is_kernel_thread(stat):
        raise NoServer(f"process {pid} ({stat.comm}) is a thread of the kernel, not a Python process", _LIST_THEM)
    if stat.dying:
        raise NoServer(f"process {pid} ({stat.comm}) has just ended", _LIST_THEM)
    return stat


def _processes() -> dict[int, Stat]:
    stats = (read_stat(pid) for pid in process_ids())
    return {stat.id.pid: stat for stat in stats if stat and not stat.ended and not program.is_kernel_thread(stat)}


def _kind(stat: Stat, only: Collection[ServerKind] = ()) -> Kind | None:
    """Return the kind of server whose root this process is, or from whose root it was forked; else None."""
    if (not only or "gunicorn" in only) and _is_gunicorn(stat):
        return GUNICORN
    wanted = [kind for kind in KINDS if kind.is_root is None and (not only or kind.name in only)]
    if not wanted:
        return None
    pid = stat.id.pid
    raw = program.read(f"/proc/{pid}/cmdline", _MOST_OF_COMMAND)
    if raw is not None and kinds.may_name_one(raw + stat.comm.encode()):
        command = processes.cmdline(pid)
        for kind in wanted:
            named = kind.arguments(command) is not None or (kind.program and _runs(pid, kind.program))
            if named and processes.is_python(pid) is not False:
                return kind
    return _kind_of_script(stat, [kind for kind in wanted if kind.leads])


_MOST_OF_COMMAND = 1 << 14


def _kind_of_script(stat: Stat, wanted: Collection[Kind]) -> Kind | None:
    """Return the kind of server that a script has started by a call, by the function that its first thread is in.

    That is read from memory, so only of the few processes that handle TERM and have a child that runs their program.
    """
    pid = stat.id.pid
    status = program.read_status(pid) if wanted else None
    if status is None or not status.catches(Signals.SIGTERM) or not processes.is_interpreter(_program(pid)):
        return None
    below = filter(None, map(read_stat, islice(children(stat), _MOST_CHILDREN)))
    if not any(related(child, stat) for child in below):
        return None
    return next((kind for kind in wanted if runs_any(pid, kind.leads)), None)


_MOST_CHILDREN = 64


def _program(pid: int) -> str:
    return processes.executable(pid) or ""


def _is_gunicorn(stat: Stat) -> bool:
    return GUNICORN.is_root is not None and GUNICORN.is_root(stat)


def _runs(pid: int, name: str) -> bool:
    return _program(pid).rpartition("/")[2].startswith(name)


def _is_first(stat: Stat, kind: Kind) -> bool:
    """Return False for what a root forked: it has its command line, and no ancestor does that is not of the server."""
    return kind.is_root is not None or all(_kind(each) is None for each in lineage(stat)[1:])


def _has_child(stat: Stat, all_of_them: Iterable[Stat]) -> bool:
    return any(each.ppid == stat.id.pid and related(each, stat) for each in all_of_them)


def _launched(stat: Stat) -> Server | None:
    """Return the server below a launcher (`semtrace run -- celery …`, `poetry run gunicorn …`): the user means that."""
    command = processes.cmdline(stat.id.pid)
    named = any(kinds.named_by(command[i:]) is not None for i in range(1, min(len(command), _MOST_WORDS)))
    found = _root_below(stat) if named else None
    return describe(*found) if found else None


_MOST_WORDS = 64


def _root_below(stat: Stat) -> tuple[Stat, Kind] | None:
    for pid in processes.descendants(stat.id.pid):
        below = read_stat(pid)
        kind = _kind(below) if below and not below.ended else None
        if below and kind:
            return below, kind
    return None


def _server_below(stat: Stat) -> str | None:
    """Return a remedy that names the server which this shell or supervisor started, if there is one."""
    found = _root_below(stat)
    return f"it runs the {found[1].name} {found[0].id.pid}: semtrace {found[0].id.pid}" if found else None
