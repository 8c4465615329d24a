"""Client of a gunicorn's control socket (from 25.1 on), which reports settings that a configuration file may hide.

For `semtrace ps` only, and bounded in every way: the other side may be stopped, hostile, or another gunicorn, because
those of one user collide on one path. The protocol is gunicorn/ctl/protocol.py: a big-endian length of 4 bytes, then
JSON.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.linux.program import namespace_pids
from semtrace.model import Server
from semtrace.servers.gunicorn_options import short_class

TIMEOUT_S = 0.3
_MAX_ANSWER = 256 * 1024


@dataclass(frozen=True)
class Config:
    """Fields of the answer to `show config` that are used here, None for those that it lacks."""

    worker_class: str | None = None
    timeout_s: float | None = None


def completed(server: Server, path: str | None) -> Server:
    """Return the server with what only its control socket knows; unchanged if that does not answer soundly at once."""
    config = ask(server.pid, path) if path is not None else None
    if config is None:
        return server
    return replace(
        server,
        worker_class=server.worker_class or config.worker_class,
        timeout_s=server.timeout_s if server.timeout_s is not None else config.timeout_s,
    )


def ask(pid: int, path: str, timeout_s: float = TIMEOUT_S) -> Config | None:
    """The settings of the gunicorn with this master, None unless that very process answers within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(_reachable(pid, path))
            if _listener(connection) != pid:
                return None
            stats = _command(connection, "stats", deadline)
            config = _command(connection, "config", deadline)
    except (OSError, ValueError, RecursionError):
        return None
    return parse_config(config) if stats.get("pid") in namespace_pids(pid) else None


def parse_config(data: dict[str, object]) -> Config:
    """Takes nothing that has not the expected form."""
    timeout = data.get("timeout")
    worker_class = data.get("worker_class")
    sound = isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and 0 <= timeout < 1e9
    return Config(
        worker_class=_class_name(worker_class) if isinstance(worker_class, str) else None,
        timeout_s=float(timeout) if sound and isinstance(timeout, (int, float)) else None,
    )


_CLASS = re.compile(r"(?:<class ')?([\w.:]{1,200})(?:'>)?\Z")


def _class_name(text: str) -> str | None:
    """`sync` of `<class 'gunicorn.workers.sync.SyncWorker'>`, which is how ctl/handlers.py, show_config, sends it."""
    found = _CLASS.match(text)
    return short_class(found[1]) if found else None


def _reachable(pid: int, path: str) -> str:
    """The path as the master sees it, also from outside its container. An address holds at most 107 bytes."""
    inside = f"/proc/{pid}/root{path}"
    return inside if len(inside.encode()) < 108 else path


def _listener(connection: socket.socket) -> int:
    """The pid of the process that listens on the other side, as the kernel vouches (unix(7), SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[0])


def _command(connection: socket.socket, what: str, deadline: float) -> dict[str, object]:
    request = json.dumps({"id": 1, "command": f"show {what}", "args": []}).encode()
    connection.settimeout(_left(deadline))
    connection.sendall(struct.pack(">I", len(request)) + request)
    (length,) = struct.unpack(">I", _receive(connection, 4, deadline))
    if length > _MAX_ANSWER:
        raise ValueError(f"an answer of {length} bytes")
    answer = json.loads(_receive(connection, length, deadline))
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        raise ValueError("an answer without data")
    return data


def _receive(connection: socket.socket, length: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < length:
        connection.settimeout(_left(deadline))
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionError("closed in the middle of an answer")
        received += piece
    return bytes(received)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
