"""Threads that sleep while they hold a lock, taken in the ways that the arguments name.

Each way has this module, and with it the lock, to itself. Prints a line `{"case": …, "lock": …, "pthread": …}` of each:
the address of the lock's object and the thread. Runs on Python 3.8 and later.
"""

import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import os
import sys
import threading
import time

lock = threading.Lock()
condition = threading.Condition(lock)
shared = multiprocessing.get_context("fork").Lock()


def tell(guard):
    say(guard)
    time.sleep(1000)


def say(guard):
    who = {"case": __name__, "lock": id(guard), "pthread": threading.get_ident()}
    os.write(1, json.dumps(who).encode() + b"\n")  # in one piece: the others write, too


def helper():
    lock.acquire()


@contextlib.contextmanager
def exclusive(guard):
    with guard:
        yield


@contextlib.contextmanager
def exclusive_by_calls():
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def under_lock():
    with lock:
        yield 1
        yield 2


class Handler:
    def __init__(self):
        self.lock = lock

    def acquire(self):
        self.lock.acquire()

    def release(self):
        self.lock.release()

    def handle(self):
        self.acquire()
        try:
            tell(lock)
        finally:
            self.release()


class Pool:
    """What it gives out is no lock, and its own is free again."""

    def __init__(self):
        self._lock = lock

    def acquire(self):
        self._lock.acquire()
        self._lock.release()

    def release(self):
        self._lock.acquire()
        self._lock.release()


def in_with():
    with lock:
        tell(lock)


def in_condition():
    with threading.Condition(lock):
        tell(lock)


def in_nested():
    """Its block goes on behind the end of the function's code, where handlers lie, next to those of the others."""
    other = threading.Lock()
    with other:
        other.locked()
    with other, lock:  # the one
        other.locked()
        with threading.Lock():
            try:
                raise ValueError
            except ValueError:
                try:
                    for _ in range(1):
                        tell(lock)
                finally:
                    other.locked()
    with other:
        other.locked()


def in_context():
    with exclusive(lock):
        tell(lock)


def in_context_by_calls():
    with exclusive_by_calls():
        tell(lock)


def in_loop():
    for _ in under_lock():
        tell(lock)


def in_variable():
    guarded = under_lock()
    next(guarded)
    tell(lock)


def in_exit_stack():
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock)
        tell(lock)


def in_exit_stack_of_contexts():
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive(lock))
        tell(lock)


def in_callback():
    stack = contextlib.ExitStack()
    lock.acquire()
    stack.callback(lock.release)
    forget = stack  # a function that the acquire above is not in
    later(forget)


def later(stack):
    tell(lock)


def in_coroutine():
    async def works():
        with lock:
            say(lock)
            await asyncio.sleep(1000)

    run_task(works)


def in_async_with():
    async def works():
        guard = asyncio.Lock()
        async with guard:
            say(guard)
            await inner()

    async def inner():
        await asyncio.sleep(1000)

    run_task(works)


def run_task(function):
    """Run it in a task that no frame refers to."""
    loop = asyncio.new_event_loop()
    tasks = set()
    loop.call_soon(lambda: tasks.add(loop.create_task(function())))
    loop.run_forever()


def in_main_task():
    async def works():
        with lock:
            say(lock)
            await asyncio.sleep(1000)

    asyncio.run(works())


def between():
    lock.acquire()
    try:
        tell(lock)
    finally:
        lock.release()


def between_again():
    for number in range(3):
        lock.acquire()
        if number == 2:
            tell(lock)
        lock.release()


def between_shared():
    shared.acquire()
    tell(shared._semlock)
    shared.release()


def between_in_method():
    Handler().handle()


def between_in_closure():
    guard = lock

    def inner():
        guard.acquire()
        tell(guard)
        guard.release()

    inner()


def between_tested():
    if lock.acquire(False):
        tell(lock)
        lock.release()


def after():
    lock.acquire()
    tell(lock)


def twice():
    say(lock)
    lock.acquire()
    lock.acquire()


def once():
    helper()
    say(lock)
    lock.acquire()
    lock.release()


def released():
    lock.acquire()
    lock.release()
    helper()
    tell(lock)


def elsewhere():
    helper()
    tell(lock)


def of_a_pool():
    pool = Pool()
    pool.acquire()
    helper()
    tell(lock)
    pool.release()


def in_wait():
    with condition:
        say(lock)
        condition.wait()


def of_another():
    other = threading.Lock()
    helper()
    other.acquire()
    tell(lock)
    other.release()


def main():
    for case in sys.argv[1:]:
        spec = importlib.util.spec_from_file_location(case, __file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        threading.Thread(target=getattr(module, case), daemon=True).start()
    time.sleep(1000)


if __name__ == "__main__":
    main()
