"""The memory layout of CPython: one table for each version, 64-bit GIL builds only.

The numbers of 3.8 to 3.13 are from the named files and from `ptype /o` of gdb, on x86-64. gdb read the DWARF of 3.8.18,
3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0. Those of 3.14 and 3.15 were verified in live 3.14.10 and 3.15.2. From 3.13
on an interpreter describes itself (`_Py_DebugOffsets`): its own numbers are used, not the table.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from semtrace.lazydata import dataclass

# The same in every version here.
OB_TYPE = 8  # Include/object.h PyObject
OB_SIZE = 16  # Include/object.h PyVarObject
MODULE_DICT = 16  # Objects/moduleobject.c (3.8), Include/internal/pycore_moduleobject.h: md_dict
TUPLE_ITEMS = 24  # Include/cpython/tupleobject.h ob_item (from 3.14 ob_hash lies before it: `tuple_items`)
LIST_ITEMS = 24  # Include/cpython/listobject.h ob_item, a pointer
DICT_KEYS, DICT_VALUES = 32, 40  # Include/cpython/dictobject.h ma_keys, ma_values
CELL_VALUE = 16  # Include/cpython/cellobject.h ob_ref
CFUNCTION_METHOD, CFUNCTION_SELF = 16, 24  # Include/cpython/methodobject.h PyCFunctionObject.m_ml, .m_self
METHOD_FUNCTION, METHOD_SELF = 16, 24  # Include/cpython/classobject.h (3.8: Include/classobject.h) im_func, im_self
DESCRIPTOR_NAME = 24  # Include/cpython/descrobject.h PyDescr_COMMON: d_name, a str
GENERATOR_FRAME = 16  # Include/genobject.h PyGenObject.gi_frame, a pointer up to 3.10; then the frame is its end
# Modules/_threadmodule.c lockobject.lock_lock, rlockobject.rlock_lock: a pointer to a sem_t up to 3.13; from 3.14 on
# the PyMutex itself, one byte
LOCK_SEMAPHORE = LOCK_MUTEX = 16
RLOCK_OWNER = 24  # the same file: rlockobject.rlock_owner (3.14: lock.thread, of a _PyRecursiveMutex), a pthread id
# Include/cpython/lock.h 3.14: _Py_HAS_PARKED, a bit of a PyMutex
MUTEX_PARKED = 2
# Python/parking_lot.c 3.14 struct wait_entry, on the waiter's stack: park_arg, addr (of the PyMutex), sema, node. The
# thread sleeps on `sema`, a sem_t of 32 bytes, so all others are given from there; a node is (next, prev).
PARK_ARGUMENT, PARK_NODE, PARK_NEXTS_BACK = -16, 32, 8
CODE_EXCEPTIONS = 40  # Include/cpython/code.h PyCodeObject.co_exceptiontable, from 3.11 on
BYTES_DATA = 32  # Include/cpython/bytesobject.h ob_sval
# Include/cpython/frameobject.h struct _frame, 3.8 to 3.10: f_valuestack; before f_localsplus lies f_blockstack,
# 20 blocks of three ints (b_type, b_handler, b_level), and before that f_iblock and a char.
FRAME_STACK, BLOCKS, BLOCK_SIZE, BLOCK_LEVEL = 64, 20, 12, 8
PROXY_MAPPING = 16  # Objects/descrobject.c mappingproxyobject.mapping
SET_MASK, SET_TABLE = 32, 40  # Include/setobject.h PySetObject; a setentry is (key, hash)
DEQUE_LEFT, DEQUE_INDEX = 24, 40  # Modules/_collectionsmodule.c dequeobject.leftblock, .leftindex
DEQUE_STATE = 56  # the same struct: state, 3.8 to 3.15
DEQUE_BLOCK = 64  # the same file: BLOCKLEN; a block is leftlink, data[BLOCKLEN], rightlink
UNICODE_LENGTH, UNICODE_STATE = 16, 32  # Include/cpython/unicodeobject.h PyASCIIObject
LONG_DIGITS = 24  # Include/cpython/longintrepr.h (up to 3.10: Include/longintrepr.h) ob_digit: 30 bits each

# Include/cpython/object.h (3.8: Include/object.h) struct _typeobject, in words from its start.
TYPE_WORDS = 44
TP_NAME, TP_BASICSIZE, TP_ITEMSIZE, TP_DEALLOC, TP_FLAGS = 3, 4, 5, 6, 21
TP_METHODS, TP_MEMBERS, TP_BASE, TP_DICT, TP_DICTOFFSET, TP_MRO = 29, 30, 32, 33, 36, 43

# Include/object.h Py_TPFLAGS_*
INLINE_VALUES, MANAGED_DICT, HEAPTYPE = 1 << 2, 1 << 4, 1 << 9
LONG, LIST, TUPLE, BYTES, UNICODE, DICT, EXCEPTION, TYPE = (1 << n for n in range(24, 32))

# Include/structmember.h (3.12: Include/descrobject.h): the members that are Python objects; PyMemberDef is 40 bytes.
T_OBJECT, T_OBJECT_EX = 6, 16
MEMBER_SIZE = 40


class Instances(Enum):
    """The ways in which an instance keeps its attributes, apart from slots."""

    DICT_POINTER = "tp_dictoffset"  # up to 3.10: Objects/object.c _PyObject_GetDictPtr
    VALUES_AND_DICT = "3.11"  # Include/internal/pycore_object.h 3.11: values at -4 words, dict at -3
    TAGGED = "3.12"  # pycore_object.h 3.12 PyDictOrValues at -3 words, values if the low bit is set
    INLINE = "3.13"  # pycore_object.h 3.13: dict at -3 words, values behind the object


@dataclass(frozen=True)
class Layout:
    """The offsets that differ between versions, in bytes."""

    version: tuple[int, int]
    # Include/internal/pycore_runtime.h (3.8: pycore_pystate.h) pyruntimestate.interpreters.head
    interpreters_head: int
    # Include/internal/pycore_interp.h (3.8: pycore_pystate.h) struct _is: next; modules or imports.modules
    interpreter_next: int
    modules: int
    # Include/cpython/unicodeobject.h: sizeof PyASCIIObject, PyCompactUnicodeObject (data or its pointer follow)
    ascii_data: int
    compact_data: int
    # unicodeobject.h PyASCIIObject.state: the first bit of `kind`, then compact, then ascii
    kind_bit: int
    # Include/cpython/longintrepr.h: 3.12 has lv_tag, before it ob_size carries sign and count
    tagged_long: bool
    # Objects/dict-common.h up to 3.10, then Include/internal/pycore_dict.h: sizes as logarithms, keys without hashes
    log2_keys: bool
    instances: Instances
    # Include/internal/pycore_dict.h struct _dictvalues (3.13 has four bytes of its own first)
    values: int
    # Include/cpython/object.h PyHeapTypeObject.ht_cached_keys
    cached_keys: int
    # Include/cpython/funcobject.h (3.8: Include/funcobject.h) PyFunctionObject
    function_code: int
    function_defaults: int
    function_kwdefaults: int
    function_closure: int
    function_dict: int
    # Include/cpython/code.h (3.8: Include/code.h) PyCodeObject: co_argcount; co_varnames and co_freevars, which 3.11
    # keeps in co_localsplusnames, the free variables last
    code_argcount: int
    code_varnames: int
    code_freevars: int
    # The threads' frames. pycore_interp.h tstate_head or threads.head; Include/cpython/pystate.h PyThreadState: next,
    # and frame (up to 3.10), cframe (its current_frame is at `cframe_current`) or current_frame (3.13; no cframe: -1)
    threads_head: int
    thread_frame: int
    cframe_current: int
    # Include/cpython/frameobject.h struct _frame up to 3.10, then Include/internal/pycore_frame.h _PyInterpreterFrame
    frame_back: int
    frame_code: int
    frame_globals: int
    frame_locals: int
    # PyCodeObject again: co_qualname (before 3.11 co_name); co_cellvars (3.11: in co_localsplusnames, 0)
    code_name: int
    code_cellvars: int
    # PyCodeObject.co_names: the attributes and globals that the code uses
    code_names: int
    thread_next: int = 8
    tuple_items: int = TUPLE_ITEMS
    # Modules/_threadmodule.c lockobject.locked (one byte, bit 0) and rlockobject.rlock_count. From 3.14 on either is a
    # PyMutex, whose waiters are parked (Python/parking_lot.c).
    parked: bool = False
    lock_locked: int = 32
    rlock_count: int = 32
    rlock_count_size: int = 8
    # Of a frame that runs: from 3.11 on the instruction that it is at (pycore_frame.h prev_instr, 3.13 instr_ptr), and
    # PyCodeObject.co_nlocalsplus. Before, 0: the innermost of its blocks says how deep its stack is.
    frame_instruction: int = 0
    code_nlocalsplus: int = 0
    # Include/internal/pycore_stackref.h 3.14: references in frames carry two tag bits
    tagged_references: bool = False
    # PyCodeObject.co_filename, co_name, co_firstlineno; co_lnotab, from 3.10 on co_linetable
    code_filename: int = 112
    code_own_name: int = 120
    code_firstlineno: int = 68
    code_lines: int = 136
    # Include/cpython/frameobject.h struct _frame.f_lasti, up to 3.10
    frame_lasti: int = 0
    # Include/cpython/pystate.h PyThreadState.thread_id, a pthread id; native_thread_id, from 3.11 on (before: 0)
    thread_id: int = 152
    native_id: int = 160


_PY38 = Layout(
    version=(3, 8),
    interpreters_head=32,
    interpreter_next=0,
    modules=56,
    ascii_data=48,
    compact_data=72,
    kind_bit=2,
    tagged_long=False,
    log2_keys=False,
    instances=Instances.DICT_POINTER,
    values=0,
    cached_keys=872,
    function_code=16,
    function_defaults=32,
    function_kwdefaults=40,
    function_closure=48,
    function_dict=72,
    code_argcount=16,
    code_varnames=72,
    code_freevars=80,
    threads_head=8,
    thread_frame=24,
    cframe_current=-1,
    frame_back=24,
    frame_code=32,
    frame_globals=48,
    frame_locals=360,
    code_name=112,
    code_cellvars=88,
    code_names=64,
    code_filename=104,
    code_own_name=112,
    code_firstlineno=40,
    code_lines=120,
    frame_lasti=104,
    thread_id=176,
    native_id=0,
)
_PY39 = replace(_PY38, version=(3, 9), modules=856, cached_keys=864)
_PY310 = replace(
    _PY39,
    version=(3, 10),
    cached_keys=872,
    function_code=48,
    function_defaults=56,
    function_kwdefaults=64,
    function_closure=72,
    function_dict=88,
    frame_locals=352,
    frame_lasti=96,
)
_PY311 = replace(
    _PY310,
    version=(3, 11),
    interpreters_head=40,
    modules=888,
    log2_keys=True,
    instances=Instances.VALUES_AND_DICT,
    code_argcount=56,
    code_varnames=96,
    code_freevars=96,
    threads_head=16,
    thread_frame=56,
    cframe_current=8,
    frame_back=48,
    frame_code=32,
    frame_globals=8,
    frame_locals=72,
    code_name=128,
    code_cellvars=0,
    code_names=32,
    frame_instruction=56,
    code_nlocalsplus=76,
    code_filename=112,
    code_own_name=120,
    code_firstlineno=72,
    code_lines=136,
    frame_lasti=0,
    thread_id=152,
    native_id=160,
)
_PY312 = replace(
    _PY311,
    version=(3, 12),
    modules=944,
    ascii_data=40,
    compact_data=56,
    tagged_long=True,
    instances=Instances.TAGGED,
    cached_keys=880,
    code_argcount=52,
    threads_head=72,
    cframe_current=0,
    frame_back=8,
    frame_code=0,
    frame_globals=24,
    code_nlocalsplus=72,
    code_firstlineno=68,
    thread_id=136,
    native_id=144,
)
# From 3.13 the way to sys.modules comes from _Py_DebugOffsets; these are its numbers in 3.13.0.
_PY313 = replace(
    _PY312,
    version=(3, 13),
    interpreters_head=632,
    interpreter_next=7264,
    modules=7656,
    instances=Instances.INLINE,
    values=8,
    threads_head=7344,
    thread_frame=72,
    cframe_current=-1,
    thread_id=152,
    native_id=160,
)
# 3.14.10 and 3.15.2, GIL builds. What is not in `_DESCRIBED` was verified by decoding live interpreters: the heads of
# `lock` and `RLock` (Modules/_threadmodule.c), tags (pycore_stackref.h), co_nlocalsplus, functions.
_PY314 = replace(
    _PY313,
    version=(3, 14),
    interpreters_head=808,
    interpreter_next=7272,
    modules=7688,
    frame_locals=80,
    tuple_items=32,
    parked=True,
    lock_locked=LOCK_MUTEX,
    rlock_count=LOCK_MUTEX,
    rlock_count_size=1,
    tagged_references=True,
)
_PY315 = replace(
    _PY314,
    version=(3, 15),
    interpreters_head=936,
    interpreter_next=7264,
    modules=7592,
    threads_head=7336,
    cached_keys=888,
    thread_id=176,
    native_id=184,
)

LAYOUTS: dict[tuple[int, int], Layout] = {
    layout.version: layout for layout in (_PY38, _PY39, _PY310, _PY311, _PY312, _PY313, _PY314, _PY315)
}

# Include/internal/pycore_runtime.h 3.13, pycore_debug_offsets.h 3.14: _Py_DebugOffsets as a row of 64-bit words.
DEBUG_COOKIE = b"xdebugpy"
DEBUG_WORDS = 112
DEBUG_VERSION, DEBUG_FREE_THREADED = 1, 2

# The word for each number of a Layout: runtime_state and interpreter_state; thread_state; interpreter_frame;
# code_object; tuple_object and unicode_object; 3.15 also heap_type_object.
_DESCRIBED: dict[tuple[int, int], dict[str, int]] = {
    (3, 13): {
        "interpreters_head": 5,
        "interpreter_next": 8,
        "threads_head": 9,
        "modules": 11,
        "thread_id": 24,
        "native_id": 25,
    },
    (3, 14): {
        "interpreters_head": 5,
        "interpreter_next": 8,
        "threads_head": 9,
        "modules": 12,
        "thread_next": 24,
        "thread_frame": 26,
        "thread_id": 27,
        "native_id": 28,
        "frame_back": 32,
        "frame_code": 33,
        "frame_instruction": 34,
        "frame_locals": 35,
        "code_filename": 40,
        "code_own_name": 41,
        "code_name": 42,
        "code_lines": 43,
        "code_firstlineno": 44,
        "code_argcount": 45,
        "code_varnames": 46,
        "code_freevars": 46,
        "tuple_items": 57,
        "ascii_data": 80,
    },
    (3, 15): {
        "interpreters_head": 5,
        "interpreter_next": 8,
        "threads_head": 9,
        "modules": 12,
        "thread_next": 24,
        "thread_frame": 26,
        "thread_id": 30,
        "native_id": 31,
        "frame_back": 40,
        "frame_code": 41,
        "frame_instruction": 42,
        "frame_locals": 43,
        "code_filename": 48,
        "code_own_name": 49,
        "code_name": 50,
        "code_lines": 51,
        "code_firstlineno": 52,
        "code_argcount": 53,
        "code_varnames": 54,
        "code_freevars": 54,
        "tuple_items": 69,
        "ascii_data": 92,
        "cached_keys": 67,
    },
}
_MOST_OFFSET = 1 << 20
_INTS = frozenset({"code_argcount", "code_firstlineno"})


def with_debug_offsets(layout: Layout, words: tuple[int, ...]) -> Layout | None:
    """Return the layout as the interpreter describes itself, None if the description is not credible."""
    described = {name: words[word] for name, word in _DESCRIBED[layout.version].items()}
    if any(offset > _MOST_OFFSET or offset % (4 if name in _INTS else 8) for name, offset in described.items()):
        return None
    return replace(layout, **described)  # type: ignore[arg-type]
