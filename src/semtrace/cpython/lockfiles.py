"""Find objects that stand for a file lock: lock objects of filelock, portalocker and fasteners, and open files."""

from __future__ import annotations

import struct

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.objects import Objects
from semtrace.cpython.threadlock import FoundThreadLock
from semtrace.lazydata import dataclass

_MOST_PATH = 4096
# filelock 3.0 to 3.11: BaseFileLock._lock_file. portalocker and fasteners: see cpython/polling.py.
_PATHS = ("_lock_file", "filename", "path")
_FASTENERS = ("fasteners.process_lock", "InterProcessLock")
# Modules/_threadmodule.c localobject.kw, what a threading.local was made with: before 3.13 it follows `key`.
_LOCAL_KEYWORDS = (24, 32)
_MOST_KEYWORDS = 32
# Modules/_io/textio.c textio.buffer, bufferedio.c buffered.raw, fileio.c fileio.fd: 3.8 to 3.15
_TEXT_BUFFER, _BUFFERED_RAW, _FILE_FD = 32, 16, 16
_FD = struct.Struct("<i")
_MOST_LAYERS = 3  # text, buffer, raw file


@dataclass(frozen=True)
class NamedFile:
    """A name that leads to a lock object, which has a path, or to an open file, which has a descriptor.

    `path` is as the program gave it. `flag` is True while the object marks its POSIX lock as acquired; None where the
    library keeps that in no attribute.
    """

    name: str
    path: str | None = None
    fd: int | None = None
    flag: FoundThreadLock | None = None


def named_file(objects: Objects, classes: Classes, name: str, address: int, cls: Class) -> NamedFile | None:
    """Return what the name leads to, None if it is neither or has no file now."""
    if cls.form is Form.OPEN_FILE:
        fd = _descriptor(objects, classes, address, cls)
        return None if fd is None else NamedFile(name, fd=fd)
    path = _lock_path(objects, classes, address, cls) if cls.form is Form.FILE_LOCK else None
    return None if path is None else NamedFile(name, path, flag=_acquired(objects, classes, name, address, cls))


def path_at(objects: Objects, classes: Classes, address: int) -> str | None:
    """Return a str, or bytes as Python's file names are; a Path keeps its text in `_str` or `_raw_path`."""
    if not address:
        return None
    text = objects.text(address)
    cls = classes.of(address)
    name = "" if cls is None else cls.name
    if text is None and name == "bytes":
        size = objects.pages.u64(address + at.OB_SIZE)
        raw = objects.pages.read(address + 32, size) if size <= _MOST_PATH else None
        text = raw.decode(errors="surrogateescape") if raw else None
    if text is None and cls is not None and name.endswith("Path"):
        kept = (classes.attribute(address, cls, each) for each in ("_str", "_raw_path"))
        text = next(filter(None, map(objects.text, kept)), None)
    return text if text and len(text) <= _MOST_PATH and "\0" not in text else None


def _lock_path(objects: Objects, classes: Classes, address: int, cls: Class) -> str | None:
    for label in _PATHS:
        if path := path_at(objects, classes, classes.attribute(address, cls, label)):
            return path
    # filelock 3.12 to 4: BaseFileLock._context.lock_file, a threading.local unless thread_local is False
    context = classes.attribute(address, cls, "_context")
    kind = classes.of(context) if context else None
    if kind is None:
        return None
    plain = path_at(objects, classes, classes.attribute(context, kind, "lock_file"))
    return plain or next(filter(None, (_keyword(objects, classes, context + place) for place in _LOCAL_KEYWORDS)), None)


def _keyword(objects: Objects, classes: Classes, place: int) -> str | None:
    keywords = objects.pages.u64(place)
    if keywords & 7 or not objects.is_dict(keywords):
        return None
    for key, value in objects.dict_items(keywords, _MOST_KEYWORDS):
        if objects.text(key) == "lock_file":
            return path_at(objects, classes, value)
    return None


def _acquired(objects: Objects, classes: Classes, name: str, address: int, cls: Class) -> FoundThreadLock | None:
    """fasteners 0.14 to 0.20, process_lock.py: InterProcessLock takes fcntl.lockf and then sets `acquired`."""
    if not any((each.module, each.name) == _FASTENERS for each in (cls, *classes.mro(cls))):
        return None
    slot = classes.attribute_slot(address, cls, "acquired")
    kind = objects.type_of(objects.pages.u64(slot)) if slot else 0
    return (
        FoundThreadLock(name, (name,), cls.name, address, "flag", cls.address, slot, value_type=kind) if kind else None
    )


def _descriptor(objects: Objects, classes: Classes, address: int, cls: Class) -> int | None:
    """Return the descriptor of an open file: of a text file that of its buffer's raw file."""
    for _ in range(_MOST_LAYERS):
        if cls.name == "FileIO":
            raw = objects.pages.read(address + _FILE_FD, _FD.size)
            fd = -1 if raw is None else _FD.unpack(raw)[0]
            return fd if fd >= 0 else None
        address = objects.pages.u64(address + (_TEXT_BUFFER if cls.name == "TextIOWrapper" else _BUFFERED_RAW))
        inner = classes.of(address) if address else None
        if inner is None or inner.form is not Form.OPEN_FILE:
            return None
        cls = inner
    return None
