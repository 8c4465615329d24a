"""Classify the objects that a type makes, and find where its instances keep their references."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import partial

from semtrace.cpython import layout as at
from semtrace.cpython.layout import Instances
from semtrace.cpython.objects import Objects
from semtrace.cpython.primitives import is_wrapper, parts_of, shown_kind
from semtrace.cpython.semtype import BASICSIZE, is_semlock_type
from semtrace.lazydata import dataclass

_MOST_BASES = 64
_MOST_MEMBERS = 128
_MOST_ATTRIBUTES = 1000

Label = str | int
"""How an object is reached from another: text, or the address of the attribute's name, which is read when needed."""


class Form(Enum):
    LEAF = "refers to nothing of interest"
    INSTANCE = "attributes and slots"
    DICT = "dict"
    LIST = "list"
    TUPLE = "tuple"
    SET = "set"
    DEQUE = "deque"
    FUNCTION = "function"
    CELL = "cell"
    PROXY = "mappingproxy"
    BUILTIN = "a method of a C object"
    MODULE = "module"
    CLASS = "type"
    SEMLOCK = "the C object of a multiprocessing lock"
    WRAPPER = "multiprocessing's Python class around it"
    THREAD_LOCK = "_thread.lock"
    THREAD_RLOCK = "_thread.RLock"
    CONDITION = "threading.Condition"
    SEMAPHORE = "threading.Semaphore"
    ASYNC_LOCK = "asyncio.Lock"
    FILE_LOCK = "a lock object of filelock, portalocker or fasteners"
    OPEN_FILE = "an open file of the io module"


# Types that are laid out in C, by tp_name (the same from 3.8 to 3.15, unless two are given).
_BY_NAME = {
    "function": Form.FUNCTION,
    "cell": Form.CELL,
    "mappingproxy": Form.PROXY,
    "builtin_function_or_method": Form.BUILTIN,
    "module": Form.MODULE,
    "set": Form.SET,
    "frozenset": Form.SET,
    "collections.deque": Form.DEQUE,
    "_thread.lock": Form.THREAD_LOCK,
    "_thread.RLock": Form.THREAD_RLOCK,
    "_io.TextIOWrapper": Form.OPEN_FILE,
    "_io.BufferedReader": Form.OPEN_FILE,
    "_io.BufferedWriter": Form.OPEN_FILE,
    "_io.BufferedRandom": Form.OPEN_FILE,
    "_io.FileIO": Form.OPEN_FILE,
    "frozendict": Form.DICT,  # 3.15: a dict without the dict's flag (Objects/dictobject.c PyFrozenDict_Type)
    "weakref": Form.LEAF,
    "weakref.ReferenceType": Form.LEAF,
}
# Types of the interpreter itself whose PyMemberDefs lead to something; all its others are leaves.
_WITH_MEMBERS = frozenset({"method", "staticmethod", "classmethod", "property"})
_BY_FLAG = (
    (at.LONG | at.BYTES | at.UNICODE | at.EXCEPTION, Form.LEAF),
    (at.TYPE, Form.CLASS),
    (at.DICT, Form.DICT),
    (at.LIST, Form.LIST),
    (at.TUPLE, Form.TUPLE),
)
_WEAK = ("weakref", "ReferenceType")
_PYTHON_CLASSES = {
    ("threading", "Condition"): Form.CONDITION,
    ("threading", "Semaphore"): Form.SEMAPHORE,
    ("asyncio.locks", "Lock"): Form.ASYNC_LOCK,
    # filelock 3.0 to 3.8, 3.9 to 3.29, 4; portalocker 1 to 4; fasteners 0.14 to 0.20
    ("filelock", "BaseFileLock"): Form.FILE_LOCK,
    ("filelock._api", "BaseFileLock"): Form.FILE_LOCK,
    ("filelock._core._lock", "BaseFileLock"): Form.FILE_LOCK,
    ("portalocker.utils", "Lock"): Form.FILE_LOCK,
    ("fasteners.process_lock", "InterProcessLock"): Form.FILE_LOCK,
    ("fasteners.process_lock", "InterProcessReaderWriterLock"): Form.FILE_LOCK,
}
# Instances of the import system and of typing: many, and nobody's locks.
_DULL_MODULES = frozenset(
    {"_frozen_importlib", "_frozen_importlib_external", "importlib._bootstrap", "typing", "zipimport"}
)


@dataclass(frozen=True)
class Class:
    """A type object. `members` are slots and C members that hold objects, `parts` the attributes of `primitives`."""

    address: int
    name: str
    module: str
    form: Form
    flags: int
    basicsize: int
    itemsize: int
    dict_offset: int
    cached_keys: int
    members: tuple[tuple[str, int], ...]
    parts: frozenset[str]

    @property
    def kind(self) -> str:
        """The name of the class for an instance."""
        return shown_kind(self.module, self.name)


class Classes:
    """Read each type once."""

    __slots__ = ("_depth", "_known", "_module_key", "_objects")

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: dict[int, Class | None] = {}
        self._depth = 0
        self._module_key = 0  # the interned "__module__", once it was met

    def of(self, address: int) -> Class | None:
        """Return the class of the object at `address`, None if it is not an object."""
        kind = 0 if address & 7 or not address else self._objects.pages.u64(address + at.OB_TYPE)
        try:
            return self._known[kind]
        except KeyError:
            return self.read(kind)

    def read(self, kind: int) -> Class | None:
        """The class whose type object lies at `kind`."""
        if kind in self._known:
            return self._known[kind]
        self._known[kind] = None  # a type that is its own base ends here
        if self._depth >= _MOST_BASES:
            return None
        self._depth += 1
        found = self._known[kind] = self._read(kind)
        self._depth -= 1
        return found

    def attributes(self, address: int, cls: Class) -> list[tuple[Label, int]]:
        """Return the objects that an instance's attributes and slots refer to."""
        namespace, values = self._storage(address, cls)
        found: list[tuple[Label, int]] = []
        if values:
            found += self._objects.shared_items(cls.cached_keys, values)
        elif namespace and self._objects.is_dict(namespace):
            found += self._objects.dict_items(namespace, _MOST_ATTRIBUTES)
        for name, offset in cls.members:
            if value := self._objects.pages.u64(address + offset):
                found.append((name, value))
        return found

    def attribute(self, address: int, cls: Class, wanted: str) -> int:
        """Return the value of one attribute, 0 without it."""
        for label, value in self.attributes(address, cls):
            if (label if isinstance(label, str) else self._objects.text(label)) == wanted:
                return value
        return 0

    def attribute_of(self, address: int, wanted: str) -> int:
        """Return the value of an attribute of any object, 0 without it."""
        cls = self.of(address)
        return self.attribute(address, cls, wanted) if cls is not None else 0

    def attribute_slot(self, address: int, cls: Class, wanted: str) -> int:
        """Return the address of the pointer to an attribute's value, 0 without it. Slots of `__slots__` are not
        searched.
        """
        namespace, values = self._storage(address, cls)
        if values:
            return self._objects.shared_slot(cls.cached_keys, values, wanted)
        return self._objects.dict_slot(namespace, wanted) if self._objects.is_dict(namespace) else 0

    def mro(self, cls: Class) -> Iterator[Class]:
        """The class and all that it is derived from, as far as they can be read."""
        for address in self._objects.tuple_items(self._objects.pages.u64(cls.address + 8 * at.TP_MRO), _MOST_BASES):
            if (found := self.read(address)) is not None:
                yield found

    def class_items(self, kind: int) -> list[tuple[Label, int]]:
        namespace = self._objects.pages.u64(kind + 8 * at.TP_DICT)
        return list(self._objects.dict_items(namespace, _MOST_ATTRIBUTES)) if self._objects.is_dict(namespace) else []

    def _storage(self, address: int, cls: Class) -> tuple[int, int]:
        """The dict of an instance's attributes, or the row of values that it has instead: one of the two is 0."""
        u64, layout = self._objects.pages.u64, self._objects.layout
        if not cls.flags & at.MANAGED_DICT or layout.instances is Instances.DICT_POINTER:
            return (u64(address + self._dict_at(address, cls)) if cls.dict_offset else 0), 0
        pointer = u64(address - 24)
        if layout.instances is Instances.TAGGED:
            return (0, pointer + 1) if pointer & 1 else (pointer, 0)
        if pointer:
            return pointer, 0
        if layout.instances is Instances.VALUES_AND_DICT:
            return 0, u64(address - 32)
        inline = address + cls.basicsize  # pycore_dict.h 3.13 struct _dictvalues: `valid` is its fourth byte
        return (
            (0, inline + layout.values)
            if cls.flags & at.INLINE_VALUES and self._objects.pages.u8(inline + 3)
            else (0, 0)
        )

    def _dict_at(self, address: int, cls: Class) -> int:
        """Objects/object.c _PyObject_GetDictPtr: a negative offset counts from the end of a variable-sized object."""
        if cls.dict_offset > 0:
            return cls.dict_offset
        size = self._objects.pages.u64(address + at.OB_SIZE)
        count = min(size, (1 << 64) - size)
        return (cls.basicsize + count * cls.itemsize + 7 & ~7) + cls.dict_offset if count < 1 << 32 else at.OB_TYPE

    def _read(self, kind: int) -> Class | None:
        objects = self._objects
        flags = objects.type_flags(kind)
        row = objects.pages.words(kind, at.TYPE_WORDS)
        name = objects.pages.cstring(row[at.TP_NAME]) if flags and row else None
        if not name or row[at.TP_BASICSIZE] > 1 << 20 or row[at.TP_ITEMSIZE] > 1 << 20:
            return None
        module, _, short = name.rpartition(".")
        heap = bool(flags & at.HEAPTYPE)
        if not module:
            module = self._module_of(row[at.TP_DICT]) if heap else "builtins"
        mro = objects.tuple_items(row[at.TP_MRO], _MOST_BASES)
        bases = [base for at_ in mro if at_ != kind and (base := self.read(at_)) is not None]
        methods = partial(self._defined, row[at.TP_DICT])
        if row[at.TP_BASICSIZE] == BASICSIZE and is_semlock_type(objects.pages, kind):
            form = Form.SEMLOCK
        elif heap and is_wrapper(short, methods):
            form = Form.WRAPPER
        else:
            form = _form(flags, name, module, bases)
        members = [] if form is Form.LEAF else self._members(row, heap or "." in name or name in _WITH_MEMBERS)
        for base in bases:
            members += [member for member in base.members if member not in members]
        offset = row[at.TP_DICTOFFSET] - (row[at.TP_DICTOFFSET] >> 63 << 64)
        if form is Form.INSTANCE and not (members or offset or flags & at.MANAGED_DICT):
            form = Form.LEAF
        return Class(
            address=kind,
            name=short,
            module=module,
            form=form,
            flags=flags,
            basicsize=row[at.TP_BASICSIZE],
            itemsize=row[at.TP_ITEMSIZE],
            dict_offset=offset if abs(offset) < 1 << 20 else 0,
            cached_keys=objects.pages.u64(kind + objects.layout.cached_keys) if heap else 0,
            members=tuple(members),
            parts=(parts_of(short, methods) if heap else frozenset()).union(*(base.parts for base in bases)),
        )

    def _defined(self, type_dict: int) -> frozenset[str]:
        """The names that a class's body binds."""
        return frozenset(self._objects.text(key) or "" for key, _ in self._objects.dict_items(type_dict, 1000))

    def _module_of(self, type_dict: int) -> str:
        """`__module__` of a class: one of the first names that its body binds."""
        for key, value in self._objects.dict_items(type_dict, 1000):
            if key == self._module_key:
                return self._objects.text(value) or ""
            if not self._module_key and self._objects.text(key) == "__module__":
                self._module_key = key
                return self._objects.text(value) or ""
        return ""

    def _members(self, row: tuple[int, ...], wanted: bool) -> list[tuple[str, int]]:
        """tp_members (PyMemberDef: name, type, offset): of a class with `__slots__` they are its slots."""
        start = row[at.TP_MEMBERS] if wanted else 0
        found: list[tuple[str, int]] = []
        for position in range(start, start + at.MEMBER_SIZE * _MOST_MEMBERS if start else start, at.MEMBER_SIZE):
            entry = self._objects.pages.words(position, 3)
            if not entry or not entry[0]:
                break
            name = self._objects.pages.cstring(entry[0])
            if name and entry[1] & 0xFFFFFFFF in (at.T_OBJECT, at.T_OBJECT_EX) and 16 <= entry[2] <= 1 << 16:
                found.append((name, entry[2]))
        return found


def _form(flags: int, name: str, module: str, bases: list[Class]) -> Form:
    heap = bool(flags & at.HEAPTYPE)
    if module in _DULL_MODULES:
        return Form.LEAF
    for mask, form in _BY_FLAG:
        if flags & mask:
            return form
    if name in _BY_NAME and not (heap and "." not in name):
        return _BY_NAME[name]
    if (module, name) in _PYTHON_CLASSES:
        return _PYTHON_CLASSES[module, name]
    for base in bases:
        if base.form not in (Form.INSTANCE, Form.LEAF) or base.name in _WEAK:
            return base.form
    if not heap and "." not in name:
        return Form.INSTANCE if name in _WITH_MEMBERS else Form.LEAF
    return Form.INSTANCE
