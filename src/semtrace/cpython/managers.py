"""Calls through a multiprocessing Manager: what a client has asked for, and what a thread of the manager serves.

Lib/multiprocessing/managers.py, 3.8 to 3.15: BaseProxy._callmethod sends (ident, method, args) through a connection of
its thread's own, and a thread of the manager in Server.serve_client calls the method. billiard and multiprocess have
copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from semtrace.cpython import layout as at
from semtrace.cpython.bytecode import item_of
from semtrace.cpython.classes import Form
from semtrace.cpython.lockpaths import is_library
from semtrace.cpython.stack import PyFrame, Sample
from semtrace.cpython.variables import variables
from semtrace.lazydata import dataclass

_FILE = "/managers.py"
_CALLS, _SERVES = "_callmethod", "serve_client"
# What the threads of a manager run that do nothing on their own: the first one waits for `shutdown`, one accepts, the
# others serve a connection each.
_ROLES = frozenset({"serve_forever", "accepter", "handle_request", _SERVES})
_INNER_FRAMES = 12
_MOST_DEPTH = 64
_MOST_FRAMES = 6  # of the user's, that are searched for the proxy's name
_MOST_GLOBALS, _MOST_MODULES = 4096, 64
# Lib/multiprocessing/util.py get_temp_dir: the folder in which a manager listens to which nobody gave an address.
_OWN_ADDRESS = "/pymp-"


@dataclass(frozen=True)
class ProxyCall:
    """A call whose answer a client's thread waits for on the descriptor `fd`.

    `ident` is the address of the object in the manager, `typeid` the name under which its class is registered. `name`
    is that of the proxy in the client, "" if no variable was found; `named`: it is a module's.
    """

    fd: int
    ident: int
    typeid: str
    method: str
    name: str = ""
    named: bool = False


@dataclass(frozen=True)
class Service:
    """A thread of a manager that serves the connection `fd`. `method` of the object at `ident` is being called, None
    while it waits for the next request.

    `direct`: only code of the object and of `threading` is being run; `queued`: that of `queue` too.
    `own_address`: only descendants of the process that made the manager know where it listens. `threads` are the
    pthread ids of all threads of the manager then, None if they are not all known; `others` those of them that do more
    than to serve.
    """

    fd: int
    own_address: bool = False
    threads: frozenset[int] | None = None
    others: frozenset[int] = frozenset()
    ident: int = 0
    method: str | None = None
    direct: bool = False
    queued: bool = False


def proxy_call(sample: Sample, frames: Sequence[PyFrame]) -> ProxyCall | None:
    """Return the call that a thread waits for, None if it is in none."""
    for position, frame in enumerate(frames[:_INNER_FRAMES]):
        if frame.function == _CALLS and frame.file.endswith(_FILE):
            return _call(sample, frame, frames[position + 1 :])
    return None


def _call(sample: Sample, frame: PyFrame, callers: Sequence[PyFrame]) -> ProxyCall | None:
    found = variables(sample, frame)
    proxy = found.get("self", 0)
    fd, ident = _handle(sample, found.get("conn", 0)), _ident(sample, sample.classes.attribute_of(proxy, "_id"))
    method = sample.objects.text(found.get("methodname", 0))
    typeid = sample.objects.text(sample.classes.attribute_of(sample.classes.attribute_of(proxy, "_token"), "typeid"))
    if fd is None or ident is None or not method:
        return None
    name, named = _name(sample, proxy, callers)
    return ProxyCall(fd, ident, typeid or "", method, name, named)


def service(sample: Sample, frames: Sequence[PyFrame]) -> Service | None:
    """Return what a thread of a manager serves, None for any other thread."""
    for position, frame in enumerate(frames[:_INNER_FRAMES]):
        if frame.function == _SERVES and frame.file.endswith(_FILE):
            return _service(sample, frame, frames[:position])
    return None


def _service(sample: Sample, frame: PyFrame, inner: Sequence[PyFrame]) -> Service | None:
    found = variables(sample, frame)
    fd = _handle(sample, found.get("conn", 0))
    if fd is None:
        return None
    known = None if sample.cut else frozenset(each.pthread_id for each in sample.threads)
    others = frozenset(each.pthread_id for each in sample.threads if not _only_serves(each.frames))
    idle = Service(fd, _is_own(sample, found.get("self", 0)), known, others)
    ident, method = _ident(sample, found.get("ident", 0)), sample.objects.text(found.get("methodname", 0))
    if ident is None or ident != found.get("obj", 0) or not method:
        return idle  # `methodname` and `obj` are None between two requests
    direct = all(each.file.endswith("/threading.py") for each in inner)
    queued = all(each.file.endswith(("/threading.py", "/queue.py")) for each in inner) and not direct
    return replace(idle, ident=ident, method=method, direct=direct, queued=queued)


def _only_serves(frames: Sequence[PyFrame]) -> bool:
    return any(frame.function in _ROLES and frame.file.endswith(_FILE) for frame in frames[:_MOST_DEPTH])


def _is_own(sample: Sample, server: int) -> bool:
    return _OWN_ADDRESS in (sample.objects.text(sample.classes.attribute_of(server, "address")) or "")


def _handle(sample: Sample, connection: int) -> int | None:
    """Lib/multiprocessing/connection.py _ConnectionBase._handle."""
    number = sample.objects.integer(sample.classes.attribute_of(connection, "_handle"))
    return number if number is not None and 0 <= number < 1 << 31 else None


def _ident(sample: Sample, text: int) -> int | None:
    """Lib/multiprocessing/managers.py Server.create: '%x' % id(obj)."""
    try:
        number = int(sample.objects.text(text) or "", 16)
    except ValueError:
        return None
    return number if 0 < number < 1 << 64 else None


def _name(sample: Sample, proxy: int, callers: Sequence[PyFrame]) -> tuple[str, bool]:
    """Return what the source calls the proxy: by a module that the calling functions know, else by their variables."""
    user = [frame for frame in callers if not is_library(frame.file)][:_MOST_FRAMES]
    for frame in user:
        namespace = sample.objects.pages.u64(frame.address + sample.objects.layout.frame_globals)
        found = _in_module(sample, namespace, proxy) or _in_imported(sample, namespace, proxy)
        if found:
            return found, True
    return next((name for frame in user for name in _in_variables(sample, frame, proxy)), ""), False


def _in_module(sample: Sample, namespace: int, proxy: int) -> str:
    """Return `app.lock` for a module that has it as a global, "" for one that has not."""
    objects = sample.objects
    if not objects.is_dict(namespace):
        return ""
    key = next((key for key, value in objects.dict_items(namespace, _MOST_GLOBALS) if value == proxy), 0)
    variable = objects.text(key) if key else None
    module = objects.text(item_of(objects, namespace, "__name__")) if variable else None
    return f"{module}.{variable}" if module and variable else ""


def _in_imported(sample: Sample, namespace: int, proxy: int) -> str:
    objects = sample.objects
    items = objects.dict_items(namespace, _MOST_GLOBALS) if objects.is_dict(namespace) else ()
    modules = (value for _, value in items if (cls := sample.classes.of(value)) and cls.form is Form.MODULE)
    namespaces = (objects.pages.u64(each + at.MODULE_DICT) for each in islice(modules, _MOST_MODULES))
    return next(filter(None, (_in_module(sample, each, proxy) for each in namespaces)), "")


def _in_variables(sample: Sample, frame: PyFrame, proxy: int) -> Iterator[str]:
    found = variables(sample, frame)
    yield from (name for name, value in found.items() if value == proxy)
    for name, value in found.items():
        cls = sample.classes.of(value)
        if cls is not None and cls.form is Form.INSTANCE:
            for label, inner in sample.classes.attributes(value, cls):
                if inner == proxy:
                    yield f"{name}.{label if isinstance(label, str) else sample.objects.text(label)}"
