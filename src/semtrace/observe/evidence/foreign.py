"""Search one process wholly for what can use a semaphore: its SemLock objects, and whatever else holds its address.

A process that takes a semaphore by `sem_wait` of its own (ctypes, cffi, C code) leaves no count that could be read, so
nothing shows whether it holds the lock. What this cannot see: C code that was given the address as a Python int and has
kept it nowhere but on a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from semtrace.cpython import layout as at
from semtrace.cpython import liveobject, semlock, semtype
from semtrace.cpython.elf import load_image
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.semlock import SemLock
from semtrace.linux import maps, shm
from semtrace.linux.memory import Memory
from semtrace.linux.threadstack import Touched, on_stack
from semtrace.model import SemId

_TAKING = ("sem_wait", "sem_trywait", "sem_timedwait", "sem_clockwait")
_FUNCTIONS = (*_TAKING, "sem_post")
_NAMES = frozenset(name.encode() for name in _FUNCTIONS)
_PREFIX = int.from_bytes(b"sem_", "little")

# glibc elf/rtld.c. The loader's data has the end of the memory that its own allocator gives out of
# (elf/dl-minimal-malloc.c: alloc_end): the address of a semaphore, where that was mapped right above.
_LOADERS_OWN = "_rtld_global"

_PIECE = 1 << 21
_MOST_TOGETHER = 8  # semaphores that are searched for in one pass
_MOST_REFERENCES = 256
_MOST_OBJECTS = 1024  # of one semaphore; a process that has more is not judged, for it decides how long that takes
_MOST_IMAGES = 400


FindWords = Callable[[int, int, Sequence[int]], list[tuple[int, int]]]
"""As `Memory.find_words`."""

_Needle = tuple[Callable[[int], None], int]
"""What takes in the addresses, multiples of eight, where a 64-bit word has this lower half."""


class ForeignUse(Enum):
    """Ways to use a semaphore other than through its SemLock objects."""

    UNSEARCHED = "not searched for it yet"
    OPENED = "opened more often than it has SemLock objects"
    MAPPED_AGAIN = "mapped at a further address"
    FUNCTION = "Python code has the C library's functions for semaphores"
    REFERENCE = "a ctypes object has its address"
    LINKED = "C code has its address, and calls those functions"


class WholeSearch:
    """One pass through a process's memory. Run it by iterating: it yields after each piece. Then `objects` has all
    SemLock objects of the given semaphores, `foreign` who else may use each, and `types` the types of the objects.
    """

    def __init__(
        self,
        memory: Memory,
        mappings: Sequence[maps.Mapping],
        touched: Touched,
        handles: Mapping[int, SemId],
        find_words: FindWords | None = None,
    ) -> None:
        """`find_words` searches the memory that holds objects."""
        self.objects: dict[SemId, list[SemLock]] = {semaphore: [] for semaphore in handles.values()}
        self.foreign: dict[SemId, ForeignUse | None] = {}
        self.types: set[int] = set()
        self._memory = memory
        self._mappings = mappings
        self._touched = touched
        self._find_words = find_words or memory.find_words
        self._handles = handles
        self._references: dict[int, list[int]] = {handle: [] for handle in handles}
        self._crowded: set[int] = set()  # handles with more objects than are read
        self._functions: frozenset[int] = frozenset()
        self._runtime: set[tuple[tuple[int, int], int]] = set()  # the C library and the dynamic loader
        self._importing: list[tuple[tuple[int, int], int]] = []  # device and inode of images that import the functions
        self._has_functions = False  # a Python object has one
        self._has_pointers = False  # anything has one

    def __iter__(self) -> Iterator[None]:
        yield from self._read_images()
        needles: list[_Needle] = [
            (self._meet_function, word) for word in sorted({semlock.lower_half(f) for f in self._functions})
        ]
        needles.append((self._meet_name, _PREFIX))
        handles = sorted(self._handles)
        for first in range(0, len(handles), _MOST_TOGETHER):
            some = handles[first : first + _MOST_TOGETHER]
            searched = [(self._meet_handle, semlock.lower_half(handle)) for handle in some]
            yield from self._pass(searched if first else searched + needles)
        for handle, semaphore in self._handles.items():
            self.foreign[semaphore] = self._judge(handle, semaphore)

    def _read_images(self) -> Iterator[None]:
        found: set[int] = set()
        starts = [m for m in self._mappings if m.offset == 0 and m.inode and "s" not in m.perms]
        for mapping in starts[:_MOST_IMAGES]:
            image = load_image(Pages(self._memory), mapping.start)
            if image is None:
                continue
            here = {address for name in _FUNCTIONS if (address := image.find(name))}
            found |= here
            if here or image.find(_LOADERS_OWN):
                self._runtime.add((mapping.device, mapping.inode))
            elif image.imports(_TAKING) and image.find("_PyRuntime") is None:
                self._importing.append((mapping.device, mapping.inode))
            yield
        self._functions = frozenset(found)

    def _pass(self, needles: Sequence[_Needle]) -> Iterator[None]:
        """Read all memory of objects, and the data of executables and libraries. There the linker puts the addresses of
        functions, so only what refers to a semaphore matters.
        """
        own = {(m.device, m.inode) for m in self._mappings if "x" in m.perms and m.inode}
        of_handles = [needle for needle in needles if needle[0] == self._meet_handle]
        for mapping in self._mappings:
            data = mapping.perms.startswith("rw-p") and (mapping.device, mapping.inode) in own
            if not data and not mapping.holds_objects:
                continue
            if data and (mapping.device, mapping.inode) in self._runtime:
                continue
            wanted, find = (of_handles, self._memory.find_words) if data else (needles, self._find_words)
            words = [word for _, word in wanted]
            for start, end in self._touched(mapping.start, mapping.end):
                for position in range(start, end, _PIECE):
                    for address, number in find(position, min(position + _PIECE, end), words):
                        if address % 8 == 0:
                            wanted[number][0](address)
                    yield

    def _meet_handle(self, start: int) -> None:
        handle = self._memory.u64(start)
        if handle is None or handle not in self._references:
            return
        candidate = semlock.read(self._memory, start - semlock.HANDLE_AT)
        if candidate is not None and candidate.handle == handle and self._is_type(candidate.type):
            objects = self.objects[self._handles[handle]]
            if len(objects) >= _MOST_OBJECTS:
                self._crowded.add(handle)
            elif candidate.address not in {known.address for known in objects}:
                objects.append(candidate)
        elif len(self._references[handle]) < _MOST_REFERENCES and start not in self._references[handle]:
            self._references[handle].append(start)

    def _meet_function(self, start: int) -> None:
        if self._memory.u64(start) not in self._functions:
            return
        if liveobject.holder_of(self._memory, start):
            self._has_functions = True
        elif not self._has_pointers:
            self._has_pointers = not self._on_stack(start)

    def _meet_name(self, hit: int) -> None:
        """Take in a string: code that asks ctypes or cffi for a function has its name among its constants."""
        if not self._has_functions:
            name = (self._memory.read(hit, 16) or b"").partition(b"\0")[0]
            self._has_functions = name in _NAMES and liveobject.is_text(self._memory, hit, len(name))

    def _is_type(self, address: int) -> bool:
        if address not in self.types and semtype.is_semlock_type(self._memory, address):
            self.types.add(address)
        return address in self.types

    def _judge(self, handle: int, semaphore: SemId) -> ForeignUse | None:
        if handle in self._crowded:
            return ForeignUse.UNSEARCHED
        if any(self._is_further(mapping, handle, semaphore) for mapping in self._mappings):
            return ForeignUse.MAPPED_AGAIN
        opened, unexplained = 0, []
        for start in self._references[handle]:
            count = shm.opened(self._memory, start, semaphore)
            opened += count or 0
            if count is None and not self._is_freed(start) and self._memory.u64(start) == handle:
                unexplained.append(start)
        if opened > len(self.objects[semaphore]):
            return ForeignUse.OPENED
        if self._has_functions:
            return ForeignUse.FUNCTION
        unexplained = [start for start in unexplained if not self._on_stack(start)]
        if any(liveobject.is_ctypes(self._memory, start) for start in unexplained):
            return ForeignUse.REFERENCE
        return ForeignUse.LINKED if unexplained and (self._has_pointers or self._is_imported()) else None

    def _is_further(self, mapping: maps.Mapping, handle: int, semaphore: SemId) -> bool:
        return (*mapping.device, mapping.inode) == semaphore and not mapping.start <= handle < mapping.end

    def _is_freed(self, start: int) -> bool:
        """A SemLock that is freed keeps all but its first word until the memory is used again."""
        kind = self._memory.u64(start - semlock.HANDLE_AT + semlock.TYPE_AT)
        return kind is not None and self._is_type(kind)

    def _on_stack(self, address: int) -> bool:
        return on_stack(self._memory, self._mappings, self._touched, address)

    def _is_imported(self) -> bool:
        """Return True if an image imports the functions that is not the extension with the SemLock type itself."""
        basic = {semtype.basic_type(self._memory, kind) for kind in self.types}
        # tp_dealloc is a function of the extension that made the type.
        code = {self._memory.u64(kind + 8 * at.TP_DEALLOC) or 0 for kind in basic if kind}
        extensions = {
            (m.device, m.inode) for m in self._mappings if any(m.start <= address < m.end for address in code)
        }
        return any(image not in extensions for image in self._importing)
