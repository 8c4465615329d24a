"""Where CPython keeps what: one table a version, 64-bit GIL builds only.

The numbers of 3.8 to 3.13 are those of the named files and those that gdb prints (`ptype /o`) from the DWARF of 3.8.18,
3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0 on x86-64. 3.14 is not tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

# The same in every version here.
OB_TYPE = 8  # Include/object.h PyObject
OB_SIZE = 16  # Include/object.h PyVarObject
MODULE_DICT = 16  # Objects/moduleobject.c (3.8), Include/internal/pycore_moduleobject.h: md_dict
TUPLE_ITEMS = 24  # Include/cpython/tupleobject.h ob_item (3.14 puts ob_hash before it: `tuple_items`)
LIST_ITEMS = 24  # Include/cpython/listobject.h ob_item, a pointer
DICT_KEYS, DICT_VALUES = 32, 40  # Include/cpython/dictobject.h ma_keys, ma_values
CELL_VALUE = 16  # Include/cpython/cellobject.h ob_ref
CFUNCTION_METHOD, CFUNCTION_SELF = 16, 24  # Include/cpython/methodobject.h PyCFunctionObject.m_ml, .m_self
METHOD_FUNCTION, METHOD_SELF = 16, 24  # Include/cpython/classobject.h (3.8: Include/classobject.h) im_func, im_self
GENERATOR_FRAME = 16  # Include/genobject.h PyGenObject.gi_frame, a pointer up to 3.10; then the frame is its end
LOCK_SEMAPHORE = 16  # Modules/_threadmodule.c lockobject.lock_lock, rlockobject.rlock_lock: a sem_t up to 3.13
RLOCK_OWNER = 24  # the same file: rlockobject.rlock_owner, a pthread id
CODE_EXCEPTIONS = 40  # Include/cpython/code.h PyCodeObject.co_exceptiontable, from 3.11 on
BYTES_DATA = 32  # Include/cpython/bytesobject.h ob_sval
# Include/cpython/frameobject.h struct _frame, 3.8 to 3.10: f_valuestack; before f_localsplus lies f_blockstack,
# 20 blocks of three ints (b_type, b_handler, b_level), and before that f_iblock and a char.
FRAME_STACK, BLOCKS, BLOCK_SIZE, BLOCK_LEVEL = 64, 20, 12, 8
PROXY_MAPPING = 16  # Objects/descrobject.c mappingproxyobject.mapping
SET_MASK, SET_TABLE = 32, 40  # Include/setobject.h PySetObject; a setentry is (key, hash)
DEQUE_LEFT, DEQUE_INDEX = 24, 40  # Modules/_collectionsmodule.c dequeobject.leftblock, .leftindex
DEQUE_BLOCK = 64  # the same file: BLOCKLEN; a block is leftlink, data[BLOCKLEN], rightlink
UNICODE_LENGTH, UNICODE_STATE = 16, 32  # Include/cpython/unicodeobject.h PyASCIIObject
LONG_DIGITS = 24  # Include/cpython/longintrepr.h (up to 3.10: Include/longintrepr.h) ob_digit: 30 bits each

# Include/cpython/object.h (3.8: Include/object.h) struct _typeobject, in words from its start.
TYPE_WORDS = 44
TP_NAME, TP_BASICSIZE, TP_ITEMSIZE, TP_FLAGS = 3, 4, 5, 21
TP_MEMBERS, TP_DICT, TP_DICTOFFSET, TP_MRO = 30, 33, 36, 43

# Include/object.h Py_TPFLAGS_*
INLINE_VALUES, MANAGED_DICT, HEAPTYPE = 1 << 2, 1 << 4, 1 << 9
LONG, LIST, TUPLE, BYTES, UNICODE, DICT, EXCEPTION, TYPE = (1 << n for n in range(24, 32))

# Include/structmember.h (3.12: Include/descrobject.h): the members that are Python objects; PyMemberDef is 40 bytes.
T_OBJECT, T_OBJECT_EX = 6, 16
MEMBER_SIZE = 40


class Instances(Enum):
    """Where an instance keeps its attributes, apart from slots."""

    DICT_POINTER = "tp_dictoffset"  # up to 3.10: Objects/object.c _PyObject_GetDictPtr
    VALUES_AND_DICT = "3.11"  # Include/internal/pycore_object.h 3.11: values at -4 words, dict at -3
    TAGGED = "3.12"  # pycore_object.h 3.12 PyDictOrValues at -3 words, values if the low bit is set
    INLINE = "3.13"  # pycore_object.h 3.13: dict at -3 words, values behind the object


@dataclass(frozen=True, slots=True)
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
    # Modules/_threadmodule.c lockobject.locked (one byte, bit 0) and rlockobject.rlock_count
    lock_locked: int = 32
    rlock_count: int = 32
    rlock_count_size: int = 8
    # Of a frame that runs: from 3.11 on the instruction that it is at (pycore_frame.h prev_instr, 3.13 instr_ptr), and
    # PyCodeObject.co_nlocalsplus. Before, 0: the innermost of its blocks says how deep its stack is.
    frame_instruction: int = 0
    code_nlocalsplus: int = 0
    tried: bool = True


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
)
# Not tried, no interpreter at hand. Read in the source: pycore_debug_offsets.h (python/cpython 7a57f7c), and that
# tuples have ob_hash before ob_item (generated clinic code). Not read but assumed (Modules/_threadmodule.c): a
# PyMutex (one byte) in lockobject and first in rlockobject. The rest is taken to be as in 3.13.
_PY314 = replace(
    _PY313,
    version=(3, 14),
    tuple_items=32,
    lock_locked=16,
    rlock_count=16,
    rlock_count_size=1,
    tried=False,
)
# Development versions of unicodeobject.h have `uint16_t interned` before `kind`: the one that can read "sys" is right.
_PY314_WIDE = replace(_PY314, kind_bit=16)

LAYOUTS: dict[tuple[int, int], tuple[Layout, ...]] = {
    (3, 8): (_PY38,),
    (3, 9): (_PY39,),
    (3, 10): (_PY310,),
    (3, 11): (_PY311,),
    (3, 12): (_PY312,),
    (3, 13): (_PY313,),
    (3, 14): (_PY314, _PY314_WIDE),
}

# Include/internal/pycore_runtime.h 3.13, pycore_debug_offsets.h 3.14: _Py_DebugOffsets as a row of 64-bit words.
DEBUG_COOKIE = b"xdebugpy"
DEBUG_WORDS = 16
DEBUG_VERSION, DEBUG_FREE_THREADED, DEBUG_HEAD, DEBUG_NEXT, DEBUG_THREADS = 1, 2, 5, 8, 9
DEBUG_MODULES = {(3, 13): 11, (3, 14): 12}  # 3.14 has threads_main before it


def with_debug_offsets(layout: Layout, words: tuple[int, ...]) -> Layout | None:
    """The layout as the interpreter describes itself, None if the description is not credible."""
    head, following, threads = words[DEBUG_HEAD], words[DEBUG_NEXT], words[DEBUG_THREADS]
    modules = words[DEBUG_MODULES[layout.version]]
    if max(head, following, modules, threads) > 1 << 20 or (head | following | modules | threads) % 8:
        return None
    return replace(layout, interpreters_head=head, interpreter_next=following, modules=modules, threads_head=threads)
