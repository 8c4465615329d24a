"""Finding servers: the gunicorn masters of this machine, and the server that any process belongs to.

A master is told by what it cannot do without, whatever its command line and title say: handlers for all the signals of
gunicorn/arbiter.py, and its workers' heartbeat files. Where these may not be seen, its command line or title decide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from semtrace.errors import NoServer, NotPermitted, SeveralServers
from semtrace.linux import program
from semtrace.linux.descriptors import listening, socket_inodes
from semtrace.linux.process import Stat, children, read_stat
from semtrace.linux.rights import remedy
from semtrace.model import Server
from semtrace.servers import gunicorn_options, processes
from semtrace.servers.gunicorn_memory import effective
from semtrace.servers.heartbeat import heartbeat_files
from semtrace.servers.roles import handles_like_master

_START_ONE = "start one (gunicorn myapp:app), or name any other Python server: semtrace PID"
_NAME_ONE = "give the PID of a gunicorn (`semtrace ps` lists them) or of any Python process (pgrep -a python)"
_LIST_THEM = "`semtrace ps` lists the gunicorns of this machine"


def find_servers() -> tuple[Server, ...]:
    """Every gunicorn master on this machine, oldest first. After USR2 old and new master are two servers."""
    masters = [stat for pid in processes.pids() if (stat := _master(pid))]
    return tuple(_gunicorn(stat) for stat in sorted(masters, key=lambda s: (s.id.start_ticks, s.id.pid)))


def server_of(pid: int) -> Server:
    """The server that this process is part of: its gunicorn, one that it launched, or its tree of forked Pythons."""
    stat = _living(pid)
    lineage = _lineage(stat)
    for ancestor in reversed(lineage):
        if _master(ancestor.id.pid):
            return _gunicorn(ancestor)
    python = processes.is_python(stat.id.pid)
    if python is None:
        _living(pid)  # who ends meanwhile loses its memory first, and cannot be read for that
        user = processes.user_name(stat.id.pid)
        raise NotPermitted(
            f"process {pid} ({stat.comm}) of {user} cannot be read, so it is not known whether it is Python",
            remedy(pid),
        )
    if not python:
        raise NoServer(f"process {pid} ({stat.comm}) is no Python process", _server_below(stat) or _NAME_ONE)
    return _launched(stat) or _python(lineage[-1])


def choose(pid: int | None) -> Server:
    """The server of that process; without one the only gunicorn of this machine."""
    if pid is not None:
        return server_of(pid)
    servers = find_servers()
    if not servers:
        raise NoServer("no gunicorn is running on this machine", _START_ONE)
    if len(servers) > 1:
        listed = ", ".join(f"{server.pid} ({server.title})" for server in servers)
        raise SeveralServers(
            f"{len(servers)} gunicorns are running: {listed}",
            f"give the PID of one, for example {servers[0].pid}",
            tuple(server.pid for server in servers),
        )
    return servers[0]


def control_socket(server: Server) -> str | None:
    """Where the master listens for gunicornc (gunicorn/ctl, since 25.1), as the kernel shows it; None if nowhere."""
    options = gunicorn_options.parse(gunicorn_options.arguments(processes.cmdline(server.pid)) or ())
    named = options.control_socket if options else None
    for address in listening(server.pid, socket_inodes(server.pid)).values():
        path = address.removeprefix("unix:")
        if path.startswith("/") and (path.endswith(_CONTROL_SOCKET) or (named and path.endswith(named))):
            return path
    return None


_CONTROL_SOCKET = "/gunicorn.ctl"

# Bounds for what the owner of an installation chooses: the names in a directory, and the directories to look into.
_MOST_ENTRIES = 10_000
_MOST_DIRECTORIES = 8
_SITE_PACKAGES = re.compile(rb" (/[^\n]*?/(?:site|dist)-packages)/")
_DISTRIBUTION = re.compile(r"gunicorn-(\d[\w.!+]*?)(?:-py[\d.]+)?\.(?:dist|egg)-info\Z")
_INTERPRETER_VERSION = re.compile(r"(?:python|pypy)(\d+\.\d+)")


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


def _lineage(stat: Stat) -> list[Stat]:
    """The process and its ancestors as far as they run one program: forked, or started anew by multiprocessing."""
    found = [stat]
    while (pid := processes.parent(found[-1].id.pid)) and (parent := read_stat(pid)):
        child = found[-1]
        related = processes.same_program(child, parent) if child.forked else processes.spawned_by(child, parent)
        if not related:
            break
        found.append(parent)
    return found


def _master(pid: int) -> Stat | None:
    """The process, if it is a gunicorn master."""
    status = program.read_status(pid)
    if status is None or not handles_like_master(status):
        return None
    stat = read_stat(pid)
    if stat is None or stat.ended or not _looks_like_master(pid):
        return None
    # Its handlers may have been a fork's of a master, right before an exec, and the rest from after that.
    status = program.read_status(pid)
    if status is None or not handles_like_master(status):
        return None
    # What a master forked for itself has inherited all the signs; the master is the first of them.
    for ancestor in _lineage(stat)[1:]:
        above = program.read_status(ancestor.id.pid)
        if above is not None and handles_like_master(above):
            return None
    return stat


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
    return gunicorn_options.arguments(command) is not None or " ".join(command).startswith("gunicorn: master")


def _gunicorn(stat: Stat) -> Server:
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
        version=_gunicorn_version(pid),
        application=gunicorn_options.application_of_title(title) if titled else settings.application,
        bind=_bind(stat),
        worker_class=settings.worker_class,
        timeout_s=settings.timeout_s,
    )
    return effective(server)


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


def readable(command: tuple[str, ...]) -> str:
    """A command line for people: programs and scripts without their directories, and no interpreter before a script."""
    words = list(command)
    if len(words) > 1 and not words[1].startswith("-") and "python" in words[0]:
        del words[0]
    return " ".join([words[0].rpartition("/")[2], *words[1:]]) if words else ""


def _has_config_file(pid: int) -> bool | None:
    """Whether there is a `gunicorn.conf.py` in its directory: gunicorn reads it unasked."""
    try:
        Path(f"/proc/{pid}/cwd/gunicorn.conf.py").stat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _bind(master: Stat) -> tuple[str, ...]:
    """What it listens on together with its workers: what it listens on alone is its control socket, or a hook's. With
    --reuse-port each worker listens for itself, on what all have in common."""
    own = socket_inodes(master.id.pid)
    listens = listening(master.id.pid, own)
    # Not psutil's children(): that reads every process of the machine, 7 ms of 300, for each server.
    pids = children(master)[:8]
    workers = [socket_inodes(pid) for pid in pids]
    shared = own.intersection(frozenset().union(*workers))
    addresses = {
        address
        for inode, address in listens.items()
        if (inode in shared or not any(workers)) and not address.endswith(_CONTROL_SOCKET)
    }
    if not addresses:
        theirs = [set(listening(pid, inodes).values()) for pid, inodes in zip(pids, workers, strict=True) if inodes]
        addresses = set.intersection(*theirs) if theirs else set()
    return tuple(sorted(addresses))


def _gunicorn_version(pid: int) -> str | None:
    """By what is installed beside the modules that it has mapped, or beside its script; None if that is ambiguous."""
    maps = program.read(f"/proc/{pid}/maps", 16 << 20) or b""
    directories = {match.decode(errors="replace") for match in _SITE_PACKAGES.findall(maps)}
    root = Path(f"/proc/{pid}/root")
    versions = set()
    for prefix in _prefixes(pid):
        for library in _entries(root / prefix.lstrip("/"), "lib"):
            for python in _entries(library, "python3"):
                directories |= {f"/{found.relative_to(root)}" for found in _entries(python, "", "-packages")}
    for directory in islice(directories, _MOST_DIRECTORIES):
        for entry in _entries(root / directory.lstrip("/"), "gunicorn-", "-info"):
            if found := _DISTRIBUTION.match(entry.name):
                versions.add(found[1])
    return versions.pop() if len(versions) == 1 else None


def _entries(directory: Path, begin: str, end: str = "") -> list[Path]:
    """What a directory has of such names, nothing if it cannot be read. Its owner decides how much that is."""
    try:
        with os.scandir(directory) as entries:
            named = (each.name for each in islice(entries, _MOST_ENTRIES))
            found = (directory / name for name in named if name.startswith(begin) and name.endswith(end))
            return list(islice(found, _MOST_DIRECTORIES))
    except OSError:
        return []


def _prefixes(pid: int) -> set[str]:
    """The directories above `bin` of its interpreter and script, as far as they were given in full."""
    return {
        word.rpartition("/bin/")[0] or "/"
        for word in processes.cmdline(pid)[:2]
        if word.startswith("/") and "/" not in word.rpartition("/bin/")[2]
    }


def _launched(stat: Stat) -> Server | None:
    """The gunicorn of `semtrace run -- gunicorn …`, `poetry run gunicorn …`: whoever names the launcher means that."""
    command = processes.cmdline(stat.id.pid)
    names_one = any(gunicorn_options.arguments(command[i:]) is not None for i in range(1, len(command)))
    master = _master_below(stat) if names_one else None
    return _gunicorn(master) if master else None


def _master_below(stat: Stat) -> Stat | None:
    return next(filter(None, map(_master, processes.descendants(stat.id.pid))), None)


def _server_below(stat: Stat) -> str | None:
    """A remedy that names the gunicorn which this shell or supervisor started, if there is one."""
    master = _master_below(stat)
    found = master and master.id.pid
    return f"it runs the gunicorn {found}: semtrace {found}" if found else None
