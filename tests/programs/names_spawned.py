"""Starts a process by the method that is its argument; both print their pid. The locks are local variables.

The names in /dev/shm are gone once both have opened them: nothing is left when the test kills them.
"""

import _multiprocessing
import multiprocessing
import os
import sys
import time


def child(handed, queue=None):
    for lock in (handed, queue._rlock, queue._wlock, queue._sem):
        if lock._semlock.name:
            _multiprocessing.sem_unlink(lock._semlock.name)
    os.write(1, f"child {os.getpid()}\n".encode())  # in one write: both write at once
    time.sleep(600)


def main():
    context = multiprocessing.get_context(sys.argv[1])
    made, queue = context.Lock(), context.Queue()
    process = context.Process(target=child, args=(made,), kwargs={"queue": queue}, daemon=True)
    process.start()
    os.write(1, f"parent {os.getpid()}\n".encode())  # in one write: both write at once
    process.join()


if __name__ == "__main__":
    main()
