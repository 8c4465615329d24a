"""What multiprocessing's larger primitives are made of: the attributes that hold their own locks.

A lock reached through one of these attributes belongs to the primitive; through any other attribute (a Pool's
`_initargs`, say) it is the user's own.
"""

from __future__ import annotations

# Lib/multiprocessing/{synchronize,queues,sharedctypes,pool}.py and Lib/concurrent/futures/process.py, 3.8 to 3.13;
# billiard/ (4.2) has the same names, and so has loky/ (3.5), of which joblib brings a copy.
_PARTS: dict[tuple[str, str], frozenset[str]] = {
    ("synchronize", "Condition"): frozenset({"_lock", "_sleeping_count", "_woken_count", "_wait_semaphore"}),
    ("synchronize", "Event"): frozenset({"_cond", "_flag"}),
    ("synchronize", "Barrier"): frozenset({"_cond"}),
    ("queues", "Queue"): frozenset({"_rlock", "_wlock", "_sem"}),
    ("queues", "JoinableQueue"): frozenset({"_unfinished_tasks", "_cond"}),
    ("queues", "SimpleQueue"): frozenset({"_rlock", "_wlock"}),
    ("sharedctypes", "SynchronizedBase"): frozenset({"_lock"}),
    ("pool", "Pool"): frozenset({"_inqueue", "_outqueue", "_change_notifier"}),
    ("process", "ProcessPoolExecutor"): frozenset({"_call_queue", "_result_queue"}),
    ("process_executor", "ProcessPoolExecutor"): frozenset({"_call_queue", "_result_queue"}),
}
_LOKY = ("loky", "joblib.externals.loky")
_PACKAGES = ("multiprocessing", "billiard", "concurrent.futures", *_LOKY, *(f"{package}.backend" for package in _LOKY))

# The classes that Value() and Array() return are not called so in anyone's source.
_SHOWN_AS = {"Synchronized": "Value", "SynchronizedArray": "Array", "SynchronizedString": "Array"}


def parts_of(module: str, name: str) -> frozenset[str]:
    """The attributes of a class of these packages that hold its own locks; empty for any other class."""
    package, _, rest = module.rpartition(".")
    return _PARTS.get((rest, name), frozenset()) if package in _PACKAGES else frozenset()


def shown_kind(module: str, name: str) -> str:
    """What to call an instance of the class."""
    if not module.endswith(".sharedctypes"):
        return name
    return _SHOWN_AS.get(name, "Value" if name.startswith("Synchronized") else name)


def is_wrapper(module: str, name: str) -> bool:
    """True for the base class of multiprocessing's Lock, RLock, Semaphore and BoundedSemaphore."""
    package, _, rest = module.rpartition(".")
    return name == "SemLock" and rest == "synchronize" and package in _PACKAGES
