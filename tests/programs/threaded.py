"""Threads and their locks, for a reader from outside. Standard library only, 3.8 and later.

`threaded.py CASE`: prints `ready` with the thread ids once everybody stands where the case wants him.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
import time

guard = threading.Lock()
other = threading.Lock()
tree = threading.RLock()
shared = multiprocessing.Lock()
inside = threading.Event()
ids = {}


def note(name):
    ids[name] = threading.get_native_id()


def start(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def holds_guard_waits_for_shared():
    note("with")
    for turn in range(3):
        if turn == 2:
            with guard:
                try:
                    inside.set()
                    shared.acquire()
                finally:
                    pass


shared_taken = threading.Event()


def takes_shared_first():
    note("waits")
    with shared:
        shared_taken.set()
        inside.wait()
        with guard:
            pass


def mixed():
    """One thread is inside guard and wants shared, another has shared and wants guard."""
    start(takes_shared_first)
    shared_taken.wait()
    start(holds_guard_waits_for_shared)


def plain():
    """Two threading locks in both orders."""

    def first():
        note("with")
        with guard:
            inside.set()
            shared_taken.wait()
            with other:
                pass

    def second():
        note("waits")
        with other:
            shared_taken.set()
            inside.wait()
            with guard:
                pass

    start(first)
    start(second)


def recursive():
    """An RLock and a lock."""

    def first():
        note("with")
        with tree, tree:
            inside.set()
            shared_taken.wait()
            guard.acquire()

    def second():
        note("waits")
        with guard:
            shared_taken.set()
            inside.wait()
            tree.acquire()

    start(first)
    start(second)


def reentry():
    """A thread that is inside takes it once more."""

    def again():
        note("with")
        with guard:
            guard.acquire()

    start(again)


def shared_again():
    """The same with multiprocessing's lock."""

    def again():
        note("with")
        with shared, shared:
            pass

    start(again)


@contextlib.contextmanager
def alone():
    with shared:
        try:
            yield
        finally:
            pass


def managed_again():
    """The same, where the first `with` is in a context manager's generator."""

    def again():
        note("with")
        with alone():
            for _ in range(2):
                with alone():
                    pass

    start(again)


condition = multiprocessing.Condition(shared)


def condition_again():
    """The same, through a Condition that was made with the lock."""

    def again():
        note("with")
        with condition:
            shared.acquire()

    start(again)


def gate():
    """One that took a lock waits until somebody gives it back for it; nobody is inside."""

    def waits():
        note("with")
        with shared:
            pass
        shared.acquire()
        shared.acquire()

    start(waits)


def stale():
    """One was inside and has left, but not its function; another took the lock by hand. Nobody is inside."""

    def left():
        note("left")
        with guard:
            pass
        inside.set()
        shared.acquire()

    def by_hand():
        note("by hand")
        inside.wait()
        shared_taken.wait()
        guard.acquire()
        ids["has"] = 1
        shared.acquire()

    def waits():
        note("waits")
        while "has" not in ids:
            time.sleep(0.01)
        guard.acquire()

    shared.acquire()
    start(left)
    inside.wait()
    shared_taken.set()
    start(by_hand)
    start(waits)


def timed():
    """As `plain`, but one of the two waits with a timeout."""

    def first():
        note("with")
        with guard:
            inside.set()
            shared_taken.wait()
            other.acquire(timeout=3600)

    def second():
        note("waits")
        with other:
            shared_taken.set()
            inside.wait()
            with guard:
                pass

    start(first)
    start(second)


def convoy():
    """A lock that many want and somebody who goes on holds."""

    def holder():
        note("with")
        while True:
            with guard:
                inside.set()
                time.sleep(0.3)

    def waiter():
        note("waits")
        while True:
            with guard:
                pass

    start(holder)
    inside.wait()
    for _ in range(3):
        start(waiter)


def deep():
    """Inside through calls, loops, nested blocks, an exception that is handled, and a generator."""

    def middle():
        for _ in range(2):
            try:
                raise ValueError
            except ValueError:
                with other:
                    inside.set()
                    shared.acquire()
                    yield 1

    def first():
        note("with")
        with open(os.devnull) as _, guard:
            for _ in [1, 2]:
                for _ in middle():
                    pass

    def waits():
        note("waits")
        inside.wait()
        guard.acquire()

    def waits_too():
        note("waits too")
        inside.wait()
        other.acquire()

    shared.acquire()
    start(first)
    start(waits)
    start(waits_too)


meeting = threading.Condition()
permits = threading.Semaphore(1)


def condition_waits():
    """One waits for a Condition, while another has its lock; a third waits for a lock of its own."""

    def waits():
        note("waits")
        with meeting:
            inside.set()
            meeting.wait()

    def has():
        note("has")
        inside.wait()
        with meeting, other:
            shared_taken.set()
            shared.acquire()

    def blocked():
        shared_taken.wait()
        other.acquire()

    shared.acquire()
    start(waits)
    start(has)
    start(blocked)


def semaphore_waits():
    """One has the only unit of a Semaphore, another waits for it."""
    permits.acquire()
    start(permits.acquire)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("ready", os.getpid(), flush=True)
    while True:
        time.sleep(0.05)
        with open(sys.argv[2] + ".new", "w") as file:
            file.write(repr(ids))
        os.replace(sys.argv[2] + ".new", sys.argv[2])
