"""The coroutines of an asyncio event loop that a thread runs: they are suspended, so no stack shows them.

CPython 3.8 to 3.13: from 3.14 on tasks are kept in a list of the thread's own that is not read here. Loops that are not
written in Python (uvloop) are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.cpython.bytecode import item_of
from semtrace.cpython.classes import Form
from semtrace.cpython.namespaces import namespace_of
from semtrace.cpython.stack import PyThread, Sample
from semtrace.cpython.variables import local

_MOST_TASKS = 1000
_MOST_WORDS = 64
_WEAK = {("builtins", "weakref"), ("weakref", "ReferenceType")}  # Objects/weakrefobject.c: up to 3.11, then
_WEAK_OBJECT = 16  # Include/cpython/weakrefobject.h (3.8: Include/weakrefobject.h) wr_object
_LOOP = 16  # Modules/_asynciomodule.c FutureObj_HEAD: fut_loop is its first
_SETS = ("_all_tasks", "_scheduled_tasks")  # Lib/asyncio/tasks.py 3.8 to 3.11; 3.12, 3.13


def suspended_coroutines(sample: Sample, thread: PyThread) -> Iterator[int]:
    """Yield the addresses of the coroutines whose tasks belong to the loop that the thread runs."""
    loops = {local(sample, f, "self") for f in thread.frames if f.function == "_run_once" and "/asyncio/" in f.file}
    namespace = namespace_of(sample, "asyncio.tasks") if loops else 0
    for name in _SETS:
        weak = item_of(sample.objects, namespace, name) if namespace else 0
        for task in _members(sample, weak):
            if sample.objects.pages.u64(task + _LOOP) in loops:
                yield from _coroutine(sample, task)


def _members(sample: Sample, weak: int) -> Iterator[int]:
    """Lib/_weakrefset.py WeakSet.data: a set of weak references."""
    data = sample.classes.attribute_of(weak, "data")
    kind = sample.classes.of(data)
    if kind is None or kind.form is not Form.SET:
        return
    for reference in sample.objects.set_items(data, _MOST_TASKS):
        found = sample.classes.of(reference)
        if (found is not None and "weakref" in (found.name, found.module)) or (found and found.name == "ReferenceType"):
            yield sample.objects.pages.u64(reference + _WEAK_OBJECT)


def _coroutine(sample: Sample, task: int) -> Iterator[int]:
    """Modules/_asynciomodule.c TaskObj.task_coro: the only coroutine that a task refers to."""
    cls = sample.classes.of(task)
    if cls is None:
        return
    for word in sample.objects.pages.words(task, min(cls.basicsize // 8, _MOST_WORDS)):
        kind = sample.classes.of(word)
        if kind is not None and (kind.module, kind.name) == ("builtins", "coroutine"):
            yield word
