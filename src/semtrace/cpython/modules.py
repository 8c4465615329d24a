"""The modules of an interpreter, and whose they are: the user's own, installed packages', the standard library's."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from functools import cached_property

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.objects import Objects
from semtrace.lazydata import dataclass

_MOST_MODULES = 20_000
_MOST_NAMES = 20_000
_INSTALLED = ("/site-packages/", "/dist-packages/")
_EGGS = (".egg/", ".pex/", ".whl/")
# In a server whose locks are traced; it may run from a clone.
_OURS = "semtrace"
# Pure Python modules of every version here; the folder that holds them is the standard library's.
_LANDMARKS = ("os", "abc", "codecs", "io", "stat", "threading", "weakref")


class Zone(IntEnum):
    """The owner of a module. The order is that in which names are preferred."""

    USER = 0
    INSTALLED = 1
    STANDARD = 2


@dataclass(frozen=True)
class Module:
    name: str
    address: int
    namespace: int  # its __dict__
    file: str


class Modules:
    """The modules in sys.modules, each module object once, under its first name."""

    def __init__(self, objects: Objects, sys_modules: Iterable[int], budget: Budget) -> None:
        self._objects = objects
        self._file_key = 0  # the interned "__file__", once it was met
        seen: set[int] = set()
        self.all: list[Module] = []
        for address in sys_modules:
            for key, value in objects.dict_items(address, _MOST_MODULES):
                name = objects.text(key)
                if name and value not in seen and not budget.spent():
                    seen.add(value)
                    self._add(name, value)
        self._by_namespace: dict[int, str | None] = {module.namespace: module.name for module in self.all}
        self._zones = {module.name: self._zone(module) for module in self.all}

    def zone(self, name: str) -> Zone:
        """Return the owner of the module of this name; if it is not in sys.modules, that of its package."""
        known = self._zones.get(name)
        if known is None:
            package = name.rpartition(".")[0]
            known = self._zones[name] = self.zone(package) if package and len(package) < 200 else Zone.USER
        return known

    def name_of(self, namespace: int) -> str | None:
        """The module whose globals these are. A child that multiprocessing spawned runs its functions in a copy of the
        main module's (Lib/multiprocessing/spawn.py _fixup_main_from_path), which has another `__name__`."""
        if namespace not in self._by_namespace:
            self._by_namespace[namespace] = self._own_name(namespace)
        return self._by_namespace[namespace]

    def _own_name(self, namespace: int) -> str | None:
        for key, value in self._objects.dict_items(namespace, 32) if self._objects.is_dict(namespace) else ():
            if self._objects.text(key) == "__name__":
                name = self._objects.text(value)
                return "__main__" if name == "__mp_main__" else name
        return None

    @cached_property
    def _standard(self) -> tuple[str, ...]:
        files = {module.name: module.file for module in self.all}
        folders = {files[name].rpartition("/")[0] + "/" for name in _LANDMARKS if files.get(name)}
        return tuple(folder for folder in folders if len(folder) > 1)

    def _add(self, name: str, address: int) -> None:
        objects = self._objects
        namespace = objects.pages.u64(address + at.MODULE_DICT)
        if objects.is_dict(namespace) and not objects.is_type(address):
            self.all.append(Module(name, address, namespace, self._file(namespace)))

    def _file(self, namespace: int) -> str:
        """`__file__`, which the import system binds among the first names; empty for built-in and made-up modules."""
        for key, value in self._objects.dict_items(namespace, 32):
            if key == self._file_key:
                return self._objects.text(value) or ""
            if not self._file_key and self._objects.text(key) == "__file__":
                self._file_key = key
                return self._objects.text(value) or ""
        return ""

    def _zone(self, module: Module) -> Zone:
        top = module.name.partition(".")[0]
        if not module.file:
            known = top in sys.stdlib_module_names or top in sys.builtin_module_names
            return Zone.STANDARD if known and top not in ("__main__", "__mp_main__") else Zone.USER
        if top == _OURS or any(part in module.file for part in (*_INSTALLED, *_EGGS)):
            return Zone.INSTALLED
        if module.file.startswith(self._standard):
            return Zone.STANDARD
        return Zone.USER
