"""Find where a function looks up a method of a given name, and of which object: `self.lock.acquire` in its code.

Names alone are decoded: nothing is run, jumps are not followed, and "before" means before in the code. Look-ups by
other means (an alias, `getattr`, a helper) are not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from enum import Enum
from itertools import islice

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Classes, Form
from semtrace.cpython.objects import Objects
from semtrace.cpython.opcodes import Op, opcodes
from semtrace.lazydata import dataclass

MOST_CODE = 1 << 17  # bytes: larger functions are not scanned
_MOST_NAMES = 1000
_MOST_LOCALS = 256
_MOST_PATH = 8
_MOST_ITEMS = 4096
_MOST_LOOKUPS = 64  # of one function
# Include/cpython/code.h (3.8: Include/code.h) PyCodeObject.co_code, a bytes object, and co_nlocals, up to 3.10
_CODE_BYTES, _CODE_NLOCALS = 48, 28


class Root(Enum):
    """The beginning of a chain of attributes."""

    LOCAL = "a variable, by its place in the frame"
    CELL = "a variable that functions share, by its number"
    GLOBAL = "a global, or a name of the module"
    UNKNOWN = "something else: the result of a call, an item"


@dataclass(frozen=True)
class Lookup:
    """One place where `name` is looked up, `offset` bytes into the code: as a method of what `root`, `value` and the
    attributes of `path` lead to. A global of that name has no `path` and Root.UNKNOWN.

    `done` is the offset of the first instruction after it that drops, stores or tests a result, None without one;
    `kept` is True if it stores or tests it. `enters` is the offset of the first `with` after it.
    """

    name: str
    offset: int
    root: Root
    value: str | int
    path: tuple[str, ...]
    done: int | None = None
    kept: bool = False
    enters: int | None = None


def lookups(objects: Objects, code: int, wanted: Collection[str]) -> tuple[Lookup, ...]:
    """Return where the code looks up these names, in the order of the code."""
    row = objects.tuple_of(objects.pages.u64(code + objects.layout.code_names), _MOST_NAMES)
    names = [objects.text(name) or "" for name in row]
    if not any(name in wanted for name in names):
        return ()
    steps = list(decode(objects.layout.version, code_bytes(objects, code)))
    chains = islice(_chains(objects, steps, names, wanted), _MOST_LOOKUPS)
    return tuple(_with_use(steps, found, position) for position, found in chains)


def value_of(objects: Objects, classes: Classes, frame: int, code: int, found: Lookup) -> int:
    """Return the address of the object whose method is looked up, as the frame's variables are now; 0 without it."""
    value = _root_value(objects, classes, frame, code, found)
    for name in found.path:
        value = attribute_of(objects, classes, value, name) if value else 0
    return value


def globals_of(objects: Objects, frame: int, code: int) -> Iterator[tuple[str, int]]:
    """Yield the globals whose names the code uses, and the addresses of their values."""
    names = set(objects.tuple_of(objects.pages.u64(code + objects.layout.code_names), _MOST_NAMES))
    namespace = objects.pages.u64(frame + objects.layout.frame_globals)
    if names and objects.is_dict(namespace):
        for key, value in objects.dict_items(namespace, _MOST_ITEMS):
            if key in names:  # Objects/codeobject.c intern_strings: both are the same object
                yield objects.text(key) or "?", value


def attribute_of(objects: Objects, classes: Classes, address: int, name: str) -> int:
    """Return an attribute of an instance, a module or a class, also one that the class has; 0 without it."""
    cls = classes.of(address)
    if cls is None:
        return 0
    if cls.form is Form.MODULE:
        return item_of(objects, objects.pages.u64(address + at.MODULE_DICT), name)
    own = None if cls.form is Form.CLASS else classes.attribute(address, cls, name)
    if own:
        return own
    kind = classes.read(address) if cls.form is Form.CLASS else cls
    for base in classes.mro(kind) if kind else ():
        found = item_of(objects, objects.pages.u64(base.address + 8 * at.TP_DICT), name)
        if found:
            return found
    return 0


@dataclass(frozen=True)
class _Step:
    offset: int
    op: Op
    argument: int


def decode(version: tuple[int, int], raw: bytes) -> Iterator[_Step]:
    """Yield the instructions, up to the first that is not known. `offset` is that of the instruction itself, behind
    what widens its argument.
    """
    table = opcodes(version)
    position = argument = 0
    while position + 2 <= len(raw):
        op, caches = table.get(raw[position], (None, 0))
        if op is None:
            return
        argument |= raw[position + 1]
        if op is Op.EXTENDED:
            argument = argument << 8 & 0xFFFFFFFF
        else:
            yield _Step(position, op, argument)
            argument = 0
        position += 2 + 2 * caches


def code_bytes(objects: Objects, code: int) -> bytes:
    """Return the instructions of a code object as the interpreter has them now, empty if they cannot be read."""
    pages = objects.pages
    if objects.layout.frame_instruction:  # Include/cpython/code.h 3.11: ob_size counts instructions, at the end
        start, size = code + pages.u64(objects.type_of(code) + 8 * at.TP_BASICSIZE), 2 * pages.u64(code + at.OB_SIZE)
    else:
        text = pages.u64(code + _CODE_BYTES)
        if not objects.type_flags(objects.type_of(text)) & at.BYTES:
            return b""
        start, size = text + at.BYTES_DATA, pages.u64(text + at.OB_SIZE)
    return (pages.read(start, size) or b"") if size <= MOST_CODE else b""


def _chains(
    objects: Objects, steps: list[_Step], names: list[str], wanted: Collection[str]
) -> Iterator[tuple[int, Lookup]]:
    """Follow `root.a.b.name`: what comes between two of its loads ends it."""
    version = objects.layout.version
    root: tuple[Root, str | int] = (Root.UNKNOWN, 0)
    path: tuple[str, ...] = ()
    for position, step in enumerate(steps):
        if step.op is Op.ATTRIBUTE:
            name = _name(names, step.argument >> (version >= (3, 12)))  # Python/bytecodes.c: the lowest bit: a method
            if name in wanted:
                yield position, Lookup(name, step.offset, *root, path)
            path = (*path, name)[:_MOST_PATH]
            continue
        root, path = _root(version, step, names), ()
        if root[0] is Root.GLOBAL and root[1] in wanted:
            yield position, Lookup(str(root[1]), step.offset, Root.UNKNOWN, 0, ())


def _root(version: tuple[int, int], step: _Step, names: list[str]) -> tuple[Root, str | int]:
    if step.op is Op.LOCAL:
        return Root.LOCAL, step.argument
    if step.op is Op.LOCALS:
        return Root.LOCAL, step.argument & 15
    if step.op is Op.CELL:
        return Root.CELL, step.argument
    if step.op is Op.MODULE:  # from 3.11 on the lowest bit says whether NULL is pushed, too
        return Root.GLOBAL, _name(names, step.argument >> (version >= (3, 11)))
    return (Root.GLOBAL, _name(names, step.argument)) if step.op is Op.NAME else (Root.UNKNOWN, 0)


def _name(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else ""


def _with_use(steps: list[_Step], found: Lookup, position: int) -> Lookup:
    use = next((step for step in islice(steps, position + 1, None) if step.op in (Op.DROPS, Op.USES)), None)
    enters = next((step.offset for step in islice(steps, position + 1, None) if step.op is Op.ENTERS), None)
    return replace(found, done=use.offset if use else None, kept=use is not None and use.op is Op.USES, enters=enters)


def _root_value(objects: Objects, classes: Classes, frame: int, code: int, found: Lookup) -> int:
    layout, pages = objects.layout, objects.pages
    if isinstance(found.value, str):
        return item_of(objects, pages.u64(frame + layout.frame_globals), found.value)
    number = found.value
    if found.root is Root.CELL and not layout.frame_instruction:  # up to 3.10 they are counted behind the locals
        number += pages.u32(code + _CODE_NLOCALS)
    if found.root is Root.UNKNOWN or number >= _MOST_LOCALS:
        return 0
    value = objects.reference(frame + layout.frame_locals + 8 * number)
    cls = classes.of(value) if value else None
    return pages.u64(value + at.CELL_VALUE) if cls is not None and cls.form is Form.CELL else value


def item_of(objects: Objects, namespace: int, name: str) -> int:
    """Return the value of a dict for this key, 0 without it, or if it is not a dict."""
    if not objects.is_dict(namespace):
        return 0
    items = objects.dict_items(namespace, _MOST_ITEMS)
    return next((value for key, value in items if objects.text(key) == name), 0)
