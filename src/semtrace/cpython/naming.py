"""The words for the way from a module to an object: `myapp.app.config['LOCK']`."""

from __future__ import annotations

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Classes, Form
from semtrace.cpython.crawl import Node
from semtrace.cpython.objects import Objects

_LONGEST_KEY = 60
_LONGEST_NAME = 300


class Naming:
    """Names nodes, with the strings of the target's memory made safe to print."""

    __slots__ = ("_classes", "_names", "_objects")

    def __init__(self, objects: Objects, classes: Classes) -> None:
        self._objects = objects
        self._classes = classes
        self._names: dict[Node, str] = {}

    def name(self, node: Node) -> str:
        known = self._names.get(node)
        if known is None:
            known = self._step(node) if node.parent is None else self.name(node.parent) + self._step(node)
            self._names[node] = known = known if len(known) <= _LONGEST_NAME else known[: _LONGEST_NAME - 1] + "…"
        return known

    def _step(self, node: Node) -> str:
        label, parent = node.label, node.parent
        if isinstance(label, str):
            # the function behind a staticmethod, a classmethod or a bound method goes by the method's name
            return plain(label) if node.how == "=" else "" if label == "__func__" else "." + plain(label)
        if node.how == ".":
            return "." + self._text(label)
        if node.how == "[":
            return f"[{self._key(label, 0)}]"
        if node.how == "k":
            return ".<defaults>." + self._text(label)
        if node.how == "c" and parent:
            return ".<closure>." + self._free_variable(parent.address, label)
        if node.how == "d" and parent:
            return ".<defaults>." + self._argument(parent.address, label)
        return f"[{label}]"

    def _text(self, address: int) -> str:
        text = self._objects.text(address)
        return "?" if text is None else plain(text)

    def _key(self, address: int, depth: int) -> str:
        """A dict's key as its repr would be, for the types that have a short one."""
        objects = self._objects
        if (text := objects.text(address)) is not None:
            return repr(text if len(text) <= _LONGEST_KEY else text[: _LONGEST_KEY - 1] + "…")
        cls = self._classes.of(address)
        number = objects.integer(address)
        if number is not None and cls is not None:
            return str(bool(number)) if cls.name == "bool" else str(number)
        if cls is not None and cls.form is Form.TUPLE and depth < 2:
            items = [self._key(item, depth + 1) for item in objects.tuple_items(address, 8)]
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        if cls is None:
            return "?"
        return "None" if cls.name == "NoneType" else f"<{plain(cls.name)}>"

    def _free_variable(self, function: int, position: int) -> str:
        """The closure's cells are in the order of co_freevars; 3.11 has these at the end of co_localsplusnames."""
        objects, layout = self._objects, self._objects.layout
        code = objects.pages.u64(function + layout.function_code)
        names = objects.tuple_of(objects.pages.u64(code + layout.code_freevars), 4096)
        if layout.code_freevars == layout.code_varnames:
            cells = objects.pages.u64(objects.pages.u64(function + layout.function_closure) + at.OB_SIZE)
            position += len(names) - min(cells, len(names))
        return self._text(names[position]) if position < len(names) else str(position)

    def _argument(self, function: int, position: int) -> str:
        """The defaults are those of the last positional arguments, which come first in co_varnames."""
        objects, layout = self._objects, self._objects.layout
        code = objects.pages.u64(function + layout.function_code)
        names = objects.tuple_of(objects.pages.u64(code + layout.code_varnames), 4096)
        defaults = objects.pages.u64(objects.pages.u64(function + layout.function_defaults) + at.OB_SIZE)
        position += objects.pages.u32(code + layout.code_argcount) - min(defaults, 4096)
        return self._text(names[position]) if 0 <= position < len(names) else str(position)


def plain(text: str) -> str:
    """`text` if it can be printed, else with escapes: no control characters, no lone surrogates."""
    text = text if len(text) <= _LONGEST_KEY * 2 else text[: _LONGEST_KEY * 2 - 1] + "…"
    return text if text.isprintable() else repr(text)[1:-1]
