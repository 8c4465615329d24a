"""Locks planted in as many places as a program may keep them, and what each should be called. Python 3.8 to 3.15.

Prints READY and the table as JSON, then obeys one word a line: `hold`, `free` (the threading locks), `fork`, `quit`.
"""

# ruff: noqa: B008

import asyncio
import collections
import functools
import json
import logging
import multiprocessing
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.synchronize
import os
import queue as threaded_queue
import signal
import sys
import threading
import types
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cached_property

context = multiprocessing.get_context("fork")
EXPECTED = []
THREADS = []


def plant(name, lock, kind="Lock", owner=None, owner_kind=None):
    semlock = getattr(lock, "_semlock", lock)
    EXPECTED.append([name, id(semlock), kind, owner, owner_kind])
    return lock


def part(owner, owner_kind, path, lock, kind="Lock"):
    plant(owner + path, lock, kind, owner, owner_kind)


def condition(owner, owner_kind, path, cond, lock_kind="RLock"):
    part(owner, owner_kind, path + "._lock", cond._lock, lock_kind)
    for name in ("_sleeping_count", "_woken_count", "_wait_semaphore"):
        part(owner, owner_kind, path + "." + name, getattr(cond, name), "Semaphore")


# Globals, of every kind.
lock = plant("__main__.lock", context.Lock())
rlock = plant("__main__.rlock", context.RLock(), "RLock")
semaphore = plant("__main__.semaphore", context.Semaphore(3), "Semaphore")
bounded = plant("__main__.bounded", context.BoundedSemaphore(2), "BoundedSemaphore")
größe = plant("__main__.größe", context.Lock())
日本 = plant("__main__.日本", context.Lock())


class NamedLock(multiprocessing.synchronize.Lock):
    def __init__(self, title):
        super().__init__(ctx=context)
        self.title = title
        self.inner = context.Lock()


named = plant("__main__.named", NamedLock("x"), "NamedLock")
plant("__main__.named.inner", named.inner)


# Attributes of instances and classes, slots, defaults and closures of methods.
class Service:
    shared = plant("__main__.Service.shared", context.Lock())

    def __init__(self):
        self.lock = context.Lock()
        self.thread_lock = threading.Lock()

    def method(self, gate=plant("__main__.Service.method.<defaults>.gate", context.Lock())):
        return gate

    @staticmethod
    def static(a, b=1, c=plant("__main__.Service.static.<defaults>.c", context.Lock())):
        return a, b, c

    @classmethod
    def made(cls, *, gate=plant("__main__.Service.made.<defaults>.gate", context.Lock())):
        return gate

    @property
    def value(self, gate=plant("__main__.Service.value.fget.<defaults>.gate", context.Lock())):
        return gate


class Slotted:
    __slots__ = ("__hidden", "lock")

    def __init__(self):
        self.lock = context.Lock()
        self.__hidden = context.Lock()

    def hidden(self):
        return self.__hidden


class MoreSlots(Slotted):
    __slots__ = ("unset", "extra")


class SlotsAndDict(Slotted):
    pass


service = Service()
plant("__main__.service.lock", service.lock)
slotted = Slotted()
plant("__main__.slotted.lock", slotted.lock)
plant("__main__.slotted._Slotted__hidden", slotted.hidden())
more_slots = MoreSlots()
more_slots.extra = plant("__main__.more_slots.extra", context.Lock())
plant("__main__.more_slots.lock", more_slots.lock)
slots_and_dict = SlotsAndDict()
slots_and_dict.free = plant("__main__.slots_and_dict.free", context.Lock())
plant("__main__.slots_and_dict.lock", slots_and_dict.lock)
second = Service()
second.late = plant("__main__.second.late", context.Lock())
del second.thread_lock
materialised = Service()
assert vars(materialised)
materialised.other = plant("__main__.materialised.other", context.Lock())
plant("__main__.materialised.lock", materialised.lock)
wide = Service()
for number in range(40):
    setattr(wide, "a%d" % number, number)
wide.at_the_end = plant("__main__.wide.at_the_end", context.Lock())
replaced = Service()
replaced.__dict__ = {"lock": plant("__main__.replaced.lock", context.Lock())}


def make_local():
    class Local:
        gate = context.Lock()

    return Local()


local = make_local()
plant("__main__.local.gate", local.gate)


class NumberWithLock(tuple):
    pass


# Containers.
class Config(dict):
    pass


class Color(str):
    pass


Pair = collections.namedtuple("Pair", "left right")
registry = {
    "k": plant("__main__.registry['k']", context.Lock()),
    "käse": plant("__main__.registry['käse']", context.Lock()),
    "日本": plant("__main__.registry['日本']", context.Lock()),
    "\U0001f600": plant("__main__.registry['\U0001f600']", context.Lock()),
    "line\nbreak": plant("__main__.registry['line\\nbreak']", context.Lock()),
    7: plant("__main__.registry[7]", context.Lock()),
    -(1 << 40): plant("__main__.registry[-1099511627776]", context.Lock()),
    None: plant("__main__.registry[None]", context.Lock()),
    True: plant("__main__.registry[True]", context.Lock()),
    ("a", 1): plant("__main__.registry[('a', 1)]", context.Lock()),
    Color("red"): plant("__main__.registry['red']", context.Lock()),
}
only_text = {"a": 1, "b": plant("__main__.only_text['b']", context.Lock())}
del only_text["a"]
ordered = collections.OrderedDict(x=plant("__main__.ordered['x']", context.Lock()))
default = collections.defaultdict(list, x=plant("__main__.default['x']", context.Lock()))
config = Config(LOCK=plant("__main__.config['LOCK']", context.Lock()))
config.attribute = plant("__main__.config.attribute", context.Lock())
locks = [None, 5, plant("__main__.locks[2]", context.Lock())]
couple = (plant("__main__.couple[0]", context.Lock()), 1)
pair = Pair(1, plant("__main__.pair[1]", context.Lock()))
tuple_with_dict = NumberWithLock((1, 2, 3))
tuple_with_dict.lock = plant("__main__.tuple_with_dict.lock", context.Lock())
line = collections.deque(range(100))
line.append(plant("__main__.line[100]", context.Lock()))
bag = {plant("__main__.bag{}", context.Lock())}
namespace = types.SimpleNamespace(lock=plant("__main__.namespace.lock", context.Lock()))
proxy = types.MappingProxyType({"p": plant("__main__.proxy['p']", context.Lock())})
stripes = [context.Lock() for _ in range(300)]
plant("__main__.stripes[299]", stripes[299])
deep = {"a": [{"b": [context.Lock()]}]}
plant("__main__.deep['a'][0]['b'][0]", deep["a"][0]["b"][0])
cycle = [context.Lock()]
cycle.append(cycle)
cycle.insert(0, {"self": cycle})
plant("__main__.cycle[1]", cycle[1])


# Functions.
def make_view():
    other, guard = 1, context.Lock()

    def view(a, b=2):
        with guard:
            return other, a, b

    plant("__main__.view.<closure>.guard", guard)
    return view


def with_default(a, gate=plant("__main__.with_default.<defaults>.gate", context.Lock()), *rest, other=1):
    return a, gate, rest, other


def with_keyword(*, first=1, gate=plant("__main__.with_keyword.<defaults>.gate", context.Lock())):
    return first, gate


def decorated(function):
    guard = context.Lock()
    plant("__main__.wrapped.<closure>.guard", guard)

    @functools.wraps(function)
    def inner(*args):
        with guard:
            return function(*args)

    return inner


@decorated
def wrapped():
    return 1


def make_cached():
    guard = context.Lock()
    plant("__main__.cached.__wrapped__.<closure>.guard", guard)

    @functools.lru_cache()
    def cached(a):
        with guard:
            return a

    return cached


view = make_view()
cached = make_cached()
wrapped.mark = plant("__main__.wrapped.mark", context.Lock())
job = functools.partial(print, plant("__main__.job.args[0]", context.Lock()), end=context.Lock())
plant("__main__.job.keywords['end']", job.keywords["end"])
bound = Service().method
plant("__main__.bound.__self__.lock", bound.__self__.lock)
acquire = context.Lock()._semlock.acquire
plant("__main__.acquire.__self__", acquire.__self__, "SemLock")

# A module made at run time.
made = types.ModuleType("made_up")
made.lock = plant("made_up.lock", context.Lock())
sys.modules["made_up"] = made

# Larger primitives.
cond = context.Condition()
condition("__main__.cond", "Condition", "", cond)
cond_of_lock = context.Condition(lock)
for part_name in ("_sleeping_count", "_woken_count", "_wait_semaphore"):
    part("__main__.cond_of_lock", "Condition", "." + part_name, getattr(cond_of_lock, part_name), "Semaphore")
event = context.Event()
condition("__main__.event", "Event", "._cond", event._cond, "Lock")
part("__main__.event", "Event", "._flag", event._flag, "Semaphore")
barrier = context.Barrier(2)
condition("__main__.barrier", "Barrier", "._cond", barrier._cond)
queue = context.Queue(5)
part("__main__.queue", "Queue", "._rlock", queue._rlock)
part("__main__.queue", "Queue", "._wlock", queue._wlock)
part("__main__.queue", "Queue", "._sem", queue._sem, "BoundedSemaphore")
joinable = context.JoinableQueue()
part("__main__.joinable", "JoinableQueue", "._rlock", joinable._rlock)
part("__main__.joinable", "JoinableQueue", "._unfinished_tasks", joinable._unfinished_tasks, "Semaphore")
condition("__main__.joinable", "JoinableQueue", "._cond", joinable._cond)
simple = context.SimpleQueue()
part("__main__.simple", "SimpleQueue", "._rlock", simple._rlock)
part("__main__.simple", "SimpleQueue", "._wlock", simple._wlock)
value = context.Value("i", 0)
part("__main__.value", "Value", "._lock", value._lock, "RLock")
array = context.Array("i", 3)
part("__main__.array", "Array", "._lock", array._lock, "RLock")
service.queue = context.Queue()
part("__main__.service.queue", "Queue", "._wlock", service.queue._wlock)


def started(*args):
    return args


pool = context.Pool(1, started, (context.Lock(),))
part("__main__.pool", "Pool", "._inqueue._rlock", pool._inqueue._rlock)
part("__main__.pool", "Pool", "._outqueue._wlock", pool._outqueue._wlock)
plant("__main__.pool._initargs[0]", pool._initargs[0])
executor = ProcessPoolExecutor(1, mp_context=context)
part("__main__.executor", "ProcessPoolExecutor", "._call_queue._rlock", executor._call_queue._rlock)
part("__main__.executor", "ProcessPoolExecutor", "._call_queue._sem", executor._call_queue._sem, "BoundedSemaphore")
part("__main__.executor", "ProcessPoolExecutor", "._result_queue._wlock", executor._result_queue._wlock)


class OwnQueue(multiprocessing.queues.Queue):
    pass


own_queue = OwnQueue(ctx=context)
part("__main__.own_queue", "OwnQueue", "._wlock", own_queue._wlock)

# Threading locks: private to each process.
thread_lock = threading.Lock()
thread_rlock = threading.RLock()
thread_condition = threading.Condition()
thread_condition_of_lock = threading.Condition(thread_lock)
thread_semaphore = threading.Semaphore(1)
thread_bounded = threading.BoundedSemaphore(1)
thread_event = threading.Event()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


class OwnAsyncLock(asyncio.Lock):
    pass


async_lock = asyncio.Lock()
own_async_lock = OwnAsyncLock()
async_condition = asyncio.Condition()


# Locks that a library made in the user's own objects are the library's; those beside them are not.
class SlowHandler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.gate = threading.Lock()


class OwnThread(threading.Thread):
    def __init__(self):
        super().__init__()
        self.guard = threading.RLock()


class OwnExecutor(ThreadPoolExecutor):
    pass


class OwnLine(threaded_queue.Queue):
    pass


class Plain:
    @cached_property
    def value(self):
        return 1


handler, own_thread, own_executor, own_line, plain = SlowHandler(), OwnThread(), OwnExecutor(1), OwnLine(), Plain()
partial_of_lock = functools.partial(print, threading.Lock())
THREADS += [
    ["__main__.async_lock", "asyncio.Lock"],
    ["__main__.own_async_lock", "OwnAsyncLock"],
    ["__main__.handler.gate", "Lock"],
    ["__main__.own_thread.guard", "RLock"],
    ["__main__.partial_of_lock.args[0]", "Lock"],
    ["__main__.thread_lock", "Lock"],
    ["__main__.thread_rlock", "RLock"],
    ["__main__.thread_condition", "Condition"],
    ["__main__.thread_semaphore", "Semaphore"],
    ["__main__.thread_bounded", "BoundedSemaphore"],
    ["__main__.service.thread_lock", "Lock"],
    ["__main__.materialised.thread_lock", "Lock"],
    ["__main__.wide.thread_lock", "Lock"],
    ["__main__.bound.__self__.thread_lock", "Lock"],
]


class InLoop:
    """An asyncio lock as one that is acquired at once."""

    def __init__(self, lock):
        self.lock = lock

    def acquire(self):
        loop.run_until_complete(self.lock.acquire())

    def release(self):
        self.lock.release()


def held():
    return [
        InLoop(async_lock),
        thread_lock,
        thread_rlock,
        thread_condition,
        thread_semaphore,
        thread_bounded,
        service.thread_lock,
    ]


def fork():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent ends
        os._exit(0)
    os.close(reader)
    return pid


def fill(what, megabytes):
    """Makes the process large: `bytes` in few objects, `objects` in very many."""
    global ballast
    if what == "bytes":
        ballast = [bytes([n % 255 + 1]) * 1_000_000 for n in range(megabytes)]
    else:
        ballast = [{"id": n, "tags": [str(n)], "more": (n, {"n": n})} for n in range(megabytes * 1500)]


if sys.version_info >= (3, 15):
    frozen = frozendict(lock=plant("__main__.frozen['lock']", context.Lock()))  # noqa: F821


def main():
    local_lock, shared_cell = context.Lock(), context.Lock()
    plant("__main__.main.<locals>.local_lock", local_lock)
    plant("__main__.main.<locals>.shared_cell", shared_cell)
    (lambda: shared_cell)()
    signal.alarm(600)
    if len(sys.argv) > 2:
        fill(sys.argv[1], int(sys.argv[2]))
    print("READY", json.dumps({"semlocks": EXPECTED, "threads": sorted(THREADS)}), flush=True)
    for word in sys.stdin:
        answer = ""
        if word.strip() == "quit":
            break
        if word.strip() == "hold":
            for each in held():
                each.acquire()
        elif word.strip() == "free":
            for each in held():
                each.release()
        elif word.strip() == "fork":
            answer = str(fork())
        print("ok", answer, flush=True)
    pool.terminate()
    pool.join()
    executor.shutdown()


if __name__ == "__main__":
    main()
