"""The layout tables against the debug information of the interpreters here, as gdb reads it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.pythons import find

from semtrace.cpython import layout as at
from semtrace.cpython.layout import LAYOUTS, Instances

# Each number with the C expressions that it is; the first that this version knows counts.
FIELDS = {
    "interpreters_head": ("_PyRuntimeState", "interpreters.head"),
    "interpreter_next": ("PyInterpreterState", "next"),
    "modules": ("PyInterpreterState", "modules", "imports.modules"),
    "threads_head": ("PyInterpreterState", "tstate_head", "threads.head"),
    "thread_next": ("PyThreadState", "next"),
    "thread_frame": ("PyThreadState", "frame", "cframe", "current_frame"),
    "cached_keys": ("PyHeapTypeObject", "ht_cached_keys"),
    "function_code": ("PyFunctionObject", "func_code"),
    "function_defaults": ("PyFunctionObject", "func_defaults"),
    "function_kwdefaults": ("PyFunctionObject", "func_kwdefaults"),
    "function_closure": ("PyFunctionObject", "func_closure"),
    "function_dict": ("PyFunctionObject", "func_dict"),
    "code_argcount": ("PyCodeObject", "co_argcount"),
    "code_varnames": ("PyCodeObject", "co_varnames", "co_localsplusnames"),
    "code_freevars": ("PyCodeObject", "co_freevars", "co_localsplusnames"),
    "code_names": ("PyCodeObject", "co_names"),
    "code_name": ("PyCodeObject", "co_qualname", "co_name"),
    "code_filename": ("PyCodeObject", "co_filename"),
    "code_own_name": ("PyCodeObject", "co_name"),
    "code_firstlineno": ("PyCodeObject", "co_firstlineno"),
    "code_lines": ("PyCodeObject", "co_lnotab", "co_linetable"),
    "thread_id": ("PyThreadState", "thread_id"),
    "tuple_items": ("PyTupleObject", "ob_item"),
    "lock_locked": ("lockobject", "locked", "lock"),
    "rlock_count": ("rlockobject", "rlock_count", "lock"),
}
FRAMES = {
    "frame_back": ("f_back", "previous"),
    "frame_code": ("f_code", "f_executable"),
    "frame_globals": ("f_globals",),
    "frame_locals": ("f_localsplus", "localsplus"),
}
COMMON = [
    (at.OB_TYPE, ("PyObject", "ob_type")),
    (at.OB_SIZE, ("PyVarObject", "ob_size")),
    (at.MODULE_DICT, ("PyModuleObject", "md_dict")),
    (at.LIST_ITEMS, ("PyListObject", "ob_item")),
    (at.DICT_KEYS, ("PyDictObject", "ma_keys")),
    (at.DICT_VALUES, ("PyDictObject", "ma_values")),
    (at.CELL_VALUE, ("PyCellObject", "ob_ref")),
    (at.CFUNCTION_SELF, ("PyCFunctionObject", "m_self")),
    (at.SET_MASK, ("PySetObject", "mask")),
    (at.SET_TABLE, ("PySetObject", "table")),
    (at.DEQUE_LEFT, ("dequeobject", "leftblock")),
    (at.DEQUE_INDEX, ("dequeobject", "leftindex")),
    (at.UNICODE_STATE, ("PyASCIIObject", "state")),
    (8 * at.TP_NAME, ("PyTypeObject", "tp_name")),
    (8 * at.TP_BASICSIZE, ("PyTypeObject", "tp_basicsize")),
    (8 * at.TP_ITEMSIZE, ("PyTypeObject", "tp_itemsize")),
    (8 * at.TP_FLAGS, ("PyTypeObject", "tp_flags")),
    (8 * at.TP_MEMBERS, ("PyTypeObject", "tp_members")),
    (8 * at.TP_DICT, ("PyTypeObject", "tp_dict")),
    (8 * at.TP_DICTOFFSET, ("PyTypeObject", "tp_dictoffset")),
    (8 * at.TP_MRO, ("PyTypeObject", "tp_mro")),
]


def _library(version: tuple[int, int]) -> Path | None:
    name = f"{version[0]}.{version[1]}"
    found = sorted(Path.home().glob(f".pyenv/versions/{name}.*/lib/libpython{name}.so.1.0"))
    return found[-1] if found else _separate_debug_file(name)


_BUILD_ID = b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0"  # elf.h NT_GNU_BUILD_ID: sizes of name and id, type, name
DEBUG_FILES = Path(os.environ.get("SEMTRACE_DEBUG_FILES", "/usr/lib/debug"))


def _separate_debug_file(version: str) -> Path | None:
    """Return what Debian's pythonX.Y-dbg installs for the very build that `.ci/pythons` fetches."""
    python = find(version)
    _, note, rest = Path(os.path.realpath(python)).read_bytes().partition(_BUILD_ID) if python else (b"", b"", b"")
    path = DEBUG_FILES / ".build-id" / rest[:1].hex() / f"{rest[1:20].hex()}.debug"
    return path if note and path.exists() else None


def _offsets(library: Path, fields: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """What gdb says to offsetof, for the fields that it knows."""
    commands = [f'-ex=printf "=%d %d\\n", {n}, (long)&(({kind}*)0)->{name}' for n, (kind, name) in enumerate(fields)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *commands, str(library)], capture_output=True, text=True, timeout=120
    )
    if "no debugging symbols" in (done.stdout + done.stderr).lower():
        pytest.skip(f"no debug information in {library}")
    return {fields[int(n)]: int(offset) for n, offset in re.findall(r"^=(\d+) (\d+)$", done.stdout, re.MULTILINE)}


@pytest.mark.slow
@pytest.mark.parametrize("version", list(LAYOUTS))
def test_every_offset_is_what_the_debug_information_says(version: tuple[int, int]) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("no gdb here")
    library = _library(version)
    if library is None:
        number = f"{version[0]}.{version[1]}"
        pytest.skip(f"no debug information of Python {number} here (Debian: python{number}-dbg of the fetched build)")
    layout = LAYOUTS[version]
    frame = "PyFrameObject" if layout.instances is Instances.DICT_POINTER else "struct _PyInterpreterFrame"
    wanted = {name: [(kind, field) for field in fields] for name, (kind, *fields) in FIELDS.items()}
    wanted |= {name: [(frame, field) for field in fields] for name, fields in FRAMES.items()}
    known = _offsets(library, [pair for pairs in wanted.values() for pair in pairs] + [pair for _, pair in COMMON])
    actual = {name: next((known[pair] for pair in pairs if pair in known), None) for name, pairs in wanted.items()}
    assert {name: getattr(layout, name) for name in wanted} == actual
    assert [(known.get(pair), pair) for _, pair in COMMON] == COMMON
