"""Parts of multiprocessing's larger primitives: the attributes that hold their own locks.

A lock reached through one of these attributes belongs to the primitive; through any other attribute (a Pool's
`_initargs`, say) it is the user's own. Classes are recognised by name and methods, whatever package they come from:
billiard, loky, joblib and multiprocess have copies of multiprocessing's.
"""

from __future__ import annotations

from collections.abc import Callable

from semtrace.lazydata import dataclass

Methods = Callable[[], frozenset[str]]
"""The names that a class itself defines, read when they are needed."""


@dataclass(frozen=True)
class _Primitive:
    """`parts` are the attributes with its locks; a class of this name is one if it defines all of the `methods`."""

    parts: frozenset[str]
    methods: frozenset[str]


def _made_of(parts: str, methods: str) -> _Primitive:
    return _Primitive(frozenset(parts.split()), frozenset(methods.split()))


# Lib/multiprocessing/{synchronize,queues,sharedctypes,pool}.py and Lib/concurrent/futures/process.py, 3.8 to 3.15;
# billiard/ (4.2), multiprocess/ (0.70) and loky/ (3.5) have the same names. billiard's SimpleQueue has methods of its
# own.
_PRIMITIVES: dict[str, tuple[_Primitive, ...]] = {
    "Condition": (_made_of("_lock _sleeping_count _woken_count _wait_semaphore", "_make_methods notify_all wait_for"),),
    "Event": (_made_of("_cond _flag", "is_set set clear wait"),),
    "Barrier": (_made_of("_cond", "__setstate__ _state _count"),),
    "Queue": (_made_of("_rlock _wlock _sem", "_start_thread _feed"),),
    "JoinableQueue": (_made_of("_unfinished_tasks _cond", "task_done join __setstate__"),),
    "SimpleQueue": (_made_of("_rlock _wlock", "get __setstate__"), _made_of("_rlock _wlock", "get_payload")),
    "SynchronizedBase": (_made_of("_lock", "get_lock get_obj"),),
    "Pool": (_made_of("_inqueue _outqueue _change_notifier", "_setup_queues"),),
    "ProcessPoolExecutor": (_made_of("_call_queue _result_queue", "submit"),),
}
# Lib/threading.py Event: it has the same methods and attributes, and these (3.8; 3.9 and later).
_THREADS_OWN = frozenset({"_reset_internal_locks", "_at_fork_reinit"})

_WRAPPER, _WRAPPERS_OWN = "SemLock", frozenset({"_make_methods", "__enter__", "__exit__"})

# The classes that Value() and Array() return are not called so in anyone's source.
_SHOWN_AS = {"Synchronized": "Value", "SynchronizedArray": "Array", "SynchronizedString": "Array"}


def parts_of(name: str, methods: Methods) -> frozenset[str]:
    """Return the attributes of a class that hold its own locks; empty for a class that is not such a primitive."""
    if name not in _PRIMITIVES:
        return frozenset()
    defined = methods()
    if defined & _THREADS_OWN:
        return frozenset()
    return frozenset().union(*(p.parts for p in _PRIMITIVES[name] if p.methods <= defined))


def shown_kind(module: str, name: str) -> str:
    """Return the kind of an instance of the class."""
    if not module.endswith(".sharedctypes"):
        return name
    return _SHOWN_AS.get(name, "Value" if name.startswith("Synchronized") else name)


def is_wrapper(name: str, methods: Methods) -> bool:
    """Return True for the base class of multiprocessing's Lock, RLock, Semaphore and BoundedSemaphore."""
    return name == _WRAPPER and methods() >= _WRAPPERS_OWN
