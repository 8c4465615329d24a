"""Labels: how servers and locks are called in metrics. Pure.

A label stays the same when a server restarts, and is never a PID. It has nothing that may be secret: no arguments of a
command line, and of a dict's keys only plain words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from semtrace.model import Lock, ProcessId, Server
from semtrace.text import clean

UNNAMED = "(unnamed)"
OTHER = "(other)"

_LONGEST = 200
# A key that is a plain word is a part of the program; one with digits or signs may be a user, a session or a token.
_PLAIN = re.compile(r"(?:'[A-Za-z_.-]{1,32}'|-?\d{1,4}|True|False|None)\Z")
# A key as its repr is, up to the bracket that ends it: text in quotes may have brackets of its own.
_KEY = re.compile(r"((?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^]'\"])*)\]")
_HIDDEN = "[*]"
# A part of a path that differs between processes or over time. It is a number such as a PID, a name of tempfile
# (Lib/tempfile.py _RandomNameSequence), or hexadecimal digits such as a UUID.
_CHANGING = re.compile(r"tmp[a-z0-9_]{8}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|\d{2,}")
_SCRIPT = re.compile(r"[\w.+-]{1,64}\Z")


def server_labels(servers: Iterable[Server]) -> dict[ProcessId, str]:
    """Return a label for each server; of several with the same name the younger ones have a number after it."""
    found: dict[ProcessId, str] = {}
    times: dict[str, int] = {}
    for server in sorted(servers, key=lambda each: (each.id.start_ticks, each.pid)):
        name = _name(server)
        times[name] = number = times.get(name, 0) + 1
        found[server.id] = name if number == 1 else f"{name} ({number})"
    return found


def lock_label(lock: Lock) -> str:
    """Return its name in the source, or the path of a file. All other locks have one label, for their identities
    change.
    """
    if lock.label == str(lock.id):
        return UNNAMED
    return _clipped(_CHANGING.sub("*", lock.label) if lock.label.startswith("/") else "".join(_harmless(lock.label)))


def _name(server: Server) -> str:
    if server.kind != "gunicorn":
        return _clipped(_program(server.title.split()))
    # A factory may have arguments: `shop:make_app(key="…")`.
    application = (server.application or "").partition("(")[0].strip() or "gunicorn"
    return _clipped("@".join((application, *server.bind[:1])))


def _program(words: list[str]) -> str:
    """Return the script or module of a command line, without its arguments."""
    return next((word for word in _candidates(words) if _SCRIPT.match(word)), "python")


def _candidates(words: list[str]) -> Iterator[str]:
    if not words:
        return
    if words[0].startswith(("python", "pypy")):
        yield from (after for before, after in pairwise(words) if before == "-m")
        if len(words) > 1 and not words[1].startswith("-"):
            yield words[1].rpartition("/")[2]
        return
    yield words[0].rstrip(":")


def _harmless(name: str) -> Iterator[str]:
    """Yield the name in pieces, with `[*]` for keys that may be data. A key whose end was cut off is hidden, too."""
    begin = 0
    while (bracket := name.find("[", begin)) >= 0:
        yield name[begin:bracket]
        key = _KEY.match(name, bracket + 1)
        if key is None:
            yield _HIDDEN
            return
        yield f"[{key[1]}]" if _PLAIN.match(key[1]) else _HIDDEN
        begin = key.end()
    yield name[begin:]


def _clipped(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
