"""The breadth-first walk from an interpreter's modules to everything that looks like a lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from functools import cached_property

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Class, Classes, Form, Label
from semtrace.cpython.frames import Frame
from semtrace.cpython.keeping import Keeping
from semtrace.cpython.modules import Module, Modules, Zone
from semtrace.cpython.objects import Objects
from semtrace.lazydata import dataclass

# How many steps from a module are followed. multiprocessing's own know what a process was started with.
DEPTHS = {Zone.USER: 5, Zone.INSTALLED: 3, Zone.STANDARD: 1}
_PROCESS_DEPTH = 3
_PROCESS_MODULES = ("multiprocessing.process", "billiard.process")

_MOST_ITEMS = 10_000  # of one container, that are looked at
_MOST_FOLLOWED = 256  # of one container, that are followed further: what is wider is data
_CHECK_EVERY = 512

_THREAD_LOCKS = {Form.THREAD_LOCK, Form.THREAD_RLOCK, Form.CONDITION, Form.SEMAPHORE, Form.ASYNC_LOCK}
_LOCKS = frozenset({Form.SEMLOCK, Form.WRAPPER, Form.FILE_LOCK, Form.OPEN_FILE} | _THREAD_LOCKS)
# Through these the way stays the user's own, whatever library defined them.
_TRANSPARENT = frozenset({"builtins", "collections", "functools", "types"})

# To an instance's class, to the function of a method, to what a cell holds.
_FREE = frozenset({"", "__func__", ".cell_contents"})

Reference = tuple[str, Label, int]
"""One step: how, label, address of the object. `how` says what the label means: "." an attribute's name, "[" a key's
address, "#" an index, "c" and "d" the position of a closure's variable and of a default, "k" the name of a keyword's
default, "=" text as it stands."""


class Node:
    """An object and the way on which it was met.

    `left` counts the steps that may still be taken. `part_of` is the larger primitive that it is a part of. `own` is
    False once the way led through an instance whose class is not the user's. It is also False for a lock in an
    attribute of a library's class, even if the user has derived a class from it.
    """

    __slots__ = ("address", "cls", "how", "label", "left", "own", "parent", "part_of", "zone")

    def __init__(
        self,
        address: int,
        cls: Class | None,
        parent: Node | None,
        how: str,
        label: Label,
        zone: Zone,
        left: int,
        own: bool,
        part_of: Node | None = None,
    ) -> None:
        self.address = address
        self.cls = cls
        self.parent = parent
        self.how = how
        self.label = label
        self.zone = zone
        self.left = left
        self.own = own
        self.part_of = part_of


@dataclass(frozen=False)
class Crawl:
    """One walk. `found` holds the nodes of everything that looks like a lock, in the order in which they were met: the
    same lock once for each way that leads to it. `only_user`: the walk ends after the user's own modules."""

    objects: Objects
    classes: Classes
    modules: Modules
    budget: Budget
    frames: tuple[Frame, ...] = ()
    only_user: bool = False
    found: list[Node] = field(default_factory=list)
    _followed: set[int] = field(default_factory=set)

    @cached_property
    def _keeping(self) -> Keeping:
        return Keeping(self.objects, self.classes, lambda module: self.modules.zone(module) is Zone.USER)

    def run(self) -> None:
        """The user's modules first, then what is being run for the user: what they reach is named by them."""
        for module in self.modules.all:
            self._followed |= {module.address, module.namespace}
        for zone in Zone:
            self._walk([_root(module, zone) for module in self.modules.all if self.modules.zone(module.name) is zone])
            if zone is Zone.STANDARD:
                return
            if zone is Zone.USER:
                self._applications()
            for frame in self.frames:
                name = self.modules.name_of(frame.namespace)
                if name and self.modules.zone(name) is zone:
                    self._locals(frame, f"{name}.{frame.function}.<locals>", zone)
            if self.only_user:
                return

    def _walk(self, level: list[Node]) -> None:
        while level:
            level = [child for node in level for child in self._children(node)]

    def _locals(self, frame: Frame, name: str, zone: Zone) -> None:
        """A method's `self` goes by its class, which says more than the method that happens to run."""
        root, anonymous = _made_up(name, zone), _made_up("", zone)
        level: list[Node] = []
        for label, value in frame.variables:
            cls = self.classes.of(value)
            if cls is not None and self.objects.text(label) == "self":
                level += self._follow(anonymous, [("=", f"<{cls.module}.{cls.name}>", value)])
            else:
                level += self._follow(root, [(".", label, value)])
        self._walk(level)

    def _applications(self) -> None:
        """The WSGI application that gunicorn serves, which no module knows if a factory made it. It is called what the
        command line calls it (gunicorn/app/base.py: `callable`, wsgiapp.py: `app_uri`)."""
        for frame in self.frames:
            served = self.modules.name_of(frame.namespace) == "gunicorn.app.base"
            for label, value in frame.variables if served else ():
                cls = self.classes.of(value)
                if cls is not None and self.objects.text(label) == "self":
                    uri = self.objects.text(self.classes.attribute(value, cls, "app_uri"))
                    root = _made_up(uri.replace(":", ".") if uri else "<application>", Zone.USER)
                    self._walk(list(self._follow(root, [("=", "", self.classes.attribute(value, cls, "callable"))])))

    def _children(self, node: Node) -> Iterator[Node]:
        """The objects one step on that are to be followed. The locks among them are noted."""
        if self.budget.spent() or not self._enter(node):
            return iter(())
        return self._follow(node, self._references(node))

    def _follow(self, node: Node, references: Iterable[Reference]) -> Iterator[Node]:
        of, followed = self.classes.of, 0
        for how, label, address in references:
            self.budget.looked_at += 1
            if self.budget.looked_at % _CHECK_EVERY == 0 and self.budget.spent():
                return
            cls = of(address)
            if cls is None or cls.form is Form.LEAF or cls.form is Form.MODULE:
                continue
            child = self._meet(node, how, label, address, cls)
            if child is not None and followed < _MOST_FOLLOWED:
                followed += 1
                yield child

    def _enter(self, node: Node) -> bool:
        """Return False if it was followed before or no step is left; a primitive still shows its parts then."""
        if not node.left:
            return bool(node.cls and node.cls.parts)
        if node.parent is not None and node.address in self._followed:
            return False
        self._followed.add(node.address)
        return True

    def _meet(self, parent: Node, how: str, label: Label, address: int, cls: Class) -> Node | None:
        """The node of an object that is to be followed. A lock is noted each time that it is met."""
        part = bool(parent.cls and parent.cls.parts) and self.objects_text(label) in parent.cls.parts  # type: ignore[union-attr]
        left = parent.left - (0 if _free(parent, label, part) else 1)
        if left < 0:
            return None
        part_of = (parent.part_of or parent) if part else None
        node = Node(address, cls, parent, how, label, parent.zone, left, self._own(parent, how, label, cls), part_of)
        if cls.form is Form.BUILTIN:
            self._meet_builtin(node)
            return None
        if cls.form in _LOCKS:
            self._note(node)
            if cls.form is not Form.FILE_LOCK:  # a user's own kind of it may have more
                return node if cls.form is Form.WRAPPER and not cls.module.endswith(".synchronize") else None
        if address in self._followed or (cls.form is Form.CLASS and not self._wanted_class(address, parent.zone)):
            return None
        return node if left or cls.parts else None

    def _note(self, node: Node) -> None:
        parent = node.parent
        if not (
            node.cls and node.cls.form is Form.SEMLOCK and parent and parent.cls and parent.cls.form is Form.WRAPPER
        ):
            self.found.append(node)

    def _meet_builtin(self, node: Node) -> None:
        """Note a lock that is kept by one of its methods: `acquire = lock.acquire`. multiprocessing's own objects keep
        such methods next to the lock.
        """
        parent = node.parent
        if parent is None or (parent.cls and (parent.cls.parts or parent.cls.form is Form.WRAPPER)):
            return
        address = self.objects.pages.u64(node.address + at.CFUNCTION_SELF)
        cls = self.classes.of(address)
        if cls is not None and cls.form is Form.SEMLOCK:
            self.found.append(Node(address, cls, node, "=", ".__self__", node.zone, 0, node.own))

    def _own(self, parent: Node, how: str, label: Label, cls: Class) -> bool:
        if not parent.own:
            return False
        if cls.form in _LOCKS:
            held = how == "." and parent.cls is not None and parent.cls.form is not Form.MODULE
            return not (held and parent.cls and self._keeping.keeps(parent.cls, self.objects_text(label)))
        if cls.parts:
            return False
        return cls.module in _TRANSPARENT or self.modules.zone(cls.module) is Zone.USER

    def _wanted_class(self, address: int, zone: Zone) -> bool:
        """Classes are followed from where they belong: others import them."""
        cls = self.classes.read(address)
        return bool(cls and cls.flags & at.HEAPTYPE) and self.modules.zone(cls.module) <= zone  # type: ignore[union-attr]

    def objects_text(self, label: Label) -> str | None:
        return label if isinstance(label, str) else self.objects.text(label)

    def _references(self, node: Node) -> Iterable[Reference]:
        """Return the references of an object. The loops are written out because they are most of the walk's time."""
        address, cls = node.address, node.cls
        if cls is None or cls.form is Form.MODULE:
            namespace = self.objects.pages.u64(address + at.MODULE_DICT)
            return [(".", key, value) for key, value in self.objects.dict_items(namespace, _MOST_ITEMS)]
        if cls.form is Form.FUNCTION:
            return self._function(address)
        if cls.form is Form.CLASS:
            return [(".", key, value) for key, value in self.classes.class_items(address)]
        found = self._items(address, cls.form)
        found += [(".", label, value) for label, value in self.classes.attributes(address, cls)]
        if cls.form is Form.INSTANCE and cls.address not in self._followed and cls.flags & at.HEAPTYPE:
            found.append(("=", "", cls.address))  # a class made in a function is reached through its instances only
        return found

    def _items(self, address: int, form: Form) -> list[Reference]:
        objects = self.objects
        if form is Form.DICT:
            return [("[", key, value) for key, value in objects.dict_items(address, _MOST_ITEMS)]
        if form is Form.LIST:
            return [("#", i, value) for i, value in enumerate(objects.list_items(address, _MOST_ITEMS))]
        if form is Form.TUPLE:
            return [("#", i, value) for i, value in enumerate(objects.tuple_items(address, _MOST_ITEMS))]
        if form is Form.DEQUE:
            return [("#", i, value) for i, value in enumerate(objects.deque_items(address, _MOST_ITEMS))]
        if form is Form.SET:
            return [("=", "{}", value) for value in objects.set_items(address, _MOST_ITEMS)]
        if form is Form.CELL:
            return [("=", ".cell_contents", objects.pages.u64(address + at.CELL_VALUE))]
        if form is Form.PROXY:
            return [("=", "", objects.pages.u64(address + at.PROXY_MAPPING))]
        return []

    def _function(self, address: int) -> Iterator[Reference]:
        objects, layout, u64 = self.objects, self.objects.layout, self.objects.pages.u64
        for i, cell in enumerate(objects.tuple_of(u64(address + layout.function_closure), 256)):
            cls = self.classes.of(cell)
            if cls is not None and cls.form is Form.CELL:
                yield "c", i, u64(cell + at.CELL_VALUE)
        for i, value in enumerate(objects.tuple_of(u64(address + layout.function_defaults), 256)):
            yield "d", i, value
        for offset, how in ((layout.function_kwdefaults, "k"), (layout.function_dict, ".")):
            mapping = u64(address + offset)
            if objects.is_dict(mapping):
                for key, value in objects.dict_items(mapping, 256):
                    yield how, key, value


def _free(parent: Node, label: Label, part: bool) -> bool:
    """Return True for a step that costs nothing: into a part, or to another wrapper of the same thing. Chains of such
    steps are short (a Pool's queue's lock is the longest).
    """
    if part:
        return parent.part_of is None or parent.parent is None or parent.parent.part_of is None
    return label in _FREE and parent.label not in _FREE


def _made_up(name: str, zone: Zone) -> Node:
    """A starting point other than a module."""
    return Node(0, None, None, "=", name, zone, DEPTHS[zone], zone is Zone.USER)


def _root(module: Module, zone: Zone) -> Node:
    depth = _PROCESS_DEPTH if module.name in _PROCESS_MODULES else DEPTHS[zone]
    return Node(module.address, None, None, "=", module.name, zone, depth, zone is Zone.USER)
