"""Threads that sleep in futexes on private memory, in the ways that the arguments name.

Each way has this module to itself. Prints a line `{"case": …, "tid": …, "pthread": …}` of each such thread. Runs on
Python 3.8 and later.
"""

import concurrent.futures
import contextlib
import ctypes
import importlib.util
import json
import logging
import os
import queue
import sys
import threading
import time


class Batcher:
    shared = threading.Lock()

    def __init__(self):
        self._lock = threading.Lock()

    def add(self):
        with self._lock:
            pass


class Client:
    def __init__(self):
        self.batcher = Batcher()


lock = threading.Lock()
tree = threading.RLock()
jobs = queue.Queue()
simple = queue.SimpleQueue()
event = threading.Event()
client = Client()
pipe = os.pipe()
stream = open(pipe[1], "wb", buffering=100)
text = open(os.dup(pipe[1]), "w")
handler = logging.StreamHandler()


def tell(**more):
    who = {"case": __name__, "tid": threading.get_native_id(), "pthread": threading.get_ident()}
    os.write(1, json.dumps({**who, **more}).encode() + b"\n")  # in one piece: the others write, too


def sleep():
    time.sleep(1000)


def start(target, name=None, daemon=True):
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    thread.start()
    return thread


def waits(function, *args):
    """Run it in a thread of its own, which says who it is."""

    def run():
        tell()
        function(*args)

    start(run, "waits")


def in_lock():
    lock.acquire()

    def enters():
        with lock:
            pass

    waits(enters)


def in_timed_acquire():
    lock.acquire()
    waits(lambda: lock.acquire(timeout=1000))


def in_attribute():
    client.batcher._lock.acquire()
    waits(lambda: client.batcher.add())


def in_class_attribute():
    Batcher.shared.acquire()

    def acquires(batcher):
        batcher.shared.acquire()

    waits(acquires, client.batcher)


def in_context():
    @contextlib.contextmanager
    def exclusive(guard):
        with guard:
            yield

    def enters():
        with exclusive(lock):
            pass

    lock.acquire()
    waits(enters)


def in_rlock():
    tree.acquire()
    tree.acquire()

    def enters():
        with tree:
            pass

    waits(enters)


def in_queue_lock():
    jobs.mutex.acquire()
    waits(jobs.put, 1)


def in_itself():
    def puts():
        with jobs.not_empty:
            jobs.put(1)

    waits(puts)


def in_queue():
    waits(jobs.get)


def in_simple_queue():
    waits(simple.get)


def in_event():
    waits(event.wait)


COPY_OF_POOL = """
import threading
class MapResult:
    def __init__(self):
        self._event = threading.Event()
    def wait(self):
        self._event.wait()
    def get(self):
        self.wait()
"""


def in_copied_pool():
    """The result of a job in an installed copy of multiprocessing."""
    names = {"__name__": "dispatch.pool"}
    exec(compile(COPY_OF_POOL, "/venv/lib/python3/site-packages/dispatch/pool.py", "exec"), names)
    waits(names["MapResult"]().get)


def in_future():
    waits(concurrent.futures.Future().result)


def in_join():
    waits(start(sleep, "cache-job").join)


def in_shutdown():
    worker = start(sleep, "cache-job", daemon=False)
    start(sleep, "other")
    tell(worker=worker.native_id)


def in_pool_end():
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
    pool.submit(sleep)

    def ends():
        with pool:
            pass

    waits(ends)


def in_import():
    def imports():
        import slow_import  # noqa: F401

    start(imports)
    while "slow_import" not in sys.modules:
        time.sleep(0.01)
    waits(imports)


def in_buffered():
    def writes(data):
        while True:
            stream.write(data)
            stream.flush()

    start(lambda: writes(b"x" * 200_000))
    time.sleep(0.3)
    waits(writes, b"y" * 10)


def in_print():
    sys.stdout = open(os.dup(pipe[1]), "w")

    def prints(data):
        while True:
            print(data, flush=True)

    start(lambda: prints("x" * 200_000))
    time.sleep(0.3)
    waits(prints, "y")


def in_logging():
    def emits():
        logging.error("x")

    logging.getLogger().addHandler(handler)
    handler.acquire()
    waits(emits)


def in_gil():
    def runs():
        tell()
        while True:
            pass

    start(runs)
    time.sleep(0.1)
    ctypes.PyDLL(None).sleep(1000)


def in_c_library():
    mutex = ctypes.create_string_buffer(64)
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    waits(library.pthread_mutex_lock, mutex)


def main():
    for case in sys.argv[1:]:
        spec = importlib.util.spec_from_file_location(case, __file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        getattr(module, f"in_{case}")()
    if "shutdown" not in sys.argv:
        sleep()


if __name__ == "__main__":
    main()
