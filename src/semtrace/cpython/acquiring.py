"""The machine code of `SemLock.acquire` in a process: which executable mappings a thread inside it returns to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semtrace.cpython import layout as at
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory

# Include/methodobject.h struct PyMethodDef: {const char *ml_name; PyCFunction ml_meth; int ml_flags; const char
# *ml_doc}.
_METHOD_SIZE = 32
_ML_METH_AT = 8

_MOST_METHODS, _MOST_BASES = 64, 16

Code = tuple[tuple[int, int], ...]


def acquiring_code(memory: Memory, types: Iterable[int], mappings: Sequence[Mapping]) -> Code | None:
    """Return all code of the files that implement these SemLock types. None where it cannot be separated from the
    interpreter's own: the module is linked into the executable or into libpython.
    """
    found: list[tuple[int, int]] = []
    for type_ in types:
        file = _file_at(mappings, _acquire(memory, type_))
        if file is None or file == _file_at(mappings, _type_dealloc(memory, type_)):
            return None
        found += [(m.start, m.end) for m in mappings if _is_code(m) and (m.device, m.inode) == file]
    return tuple(sorted(set(found)))


def _acquire(memory: Memory, type_: int) -> int:
    """Return the C function behind the method `acquire`, 0 if it is not found. A class made in Python inherits it."""
    for _ in range(_MOST_BASES):
        methods = memory.u64(type_ + 8 * at.TP_METHODS)
        for method in range(methods, methods + _MOST_METHODS * _METHOD_SIZE, _METHOD_SIZE) if methods else ():
            name = memory.u64(method)
            if not name:
                break
            if memory.cstring(name, 16) == b"acquire":
                return memory.u64(method + _ML_METH_AT) or 0
        type_ = memory.u64(type_ + 8 * at.TP_BASE) or 0
        if not type_:
            break
    return 0


def _type_dealloc(memory: Memory, type_: int) -> int:
    """Return a function of the interpreter itself: that of `type`, which is the type of every type made in C."""
    return memory.u64((memory.u64(type_ + at.OB_TYPE) or 0) + 8 * at.TP_DEALLOC) or 0


def _file_at(mappings: Sequence[Mapping], address: int) -> tuple[tuple[int, int], int] | None:
    """Return the file whose code lies there, None if it is of no file."""
    for m in mappings:
        if _is_code(m) and m.start <= address < m.end:
            return (m.device, m.inode) if m.inode else None
    return None


def _is_code(mapping: Mapping) -> bool:
    return "x" in mapping.perms
