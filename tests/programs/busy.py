"""A healthy program that uses every kind of lock all the time: nested in one order, queues, conditions, pools, and
children that come and go. Prints its pid when all has begun."""

import contextlib
import multiprocessing as mp
import os
import queue as queues
import random
import signal
import sys
import threading
import time

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 3

first, second, third = mp.Lock(), mp.RLock(), mp.Lock()
slots = mp.BoundedSemaphore(2)
permits = mp.Semaphore(2)
condition = mp.Condition()
queue = mp.Queue(5)
counter = mp.Value("i", 0)
ready_out, ready_in = os.pipe()


def nap(most):
    if random.random() < 0.3:
        time.sleep(random.random() * most)


def in_order():
    """Always the first before the second before the third: no deadlock, however it looks for a moment."""
    with first:
        nap(0.002)
        with second, second:
            nap(0.002)
            with third:
                nap(0.002)


def some_of_them():
    with random.choice((first, third)):
        nap(0.005)
    with slots, permits:
        nap(0.005)
    with counter.get_lock():
        counter.value += 1


def tell():
    with condition:
        condition.notify_all()


def listen():
    with condition:
        condition.wait(0.05)


def give():
    if random.random() < 0.5:
        queue.put(1)
    else:
        with contextlib.suppress(queues.Empty):
            queue.get(timeout=0.01)


def child():
    """One that lives for a moment."""
    pid = os.fork()
    if pid == 0:
        with first, third:
            nap(0.01)
        os._exit(0)
    os.waitpid(pid, 0)


def work(seed):
    random.seed(seed)
    while os.getppid() != 1:
        random.choice((in_order, in_order, some_of_them, tell, listen, give))()


def worker(number):
    threading.Thread(target=work, args=(number + 1000,), daemon=True).start()
    os.write(ready_in, b".")
    work(number)


def main():
    pool = mp.get_context("fork").Pool(2)
    for number in range(WORKERS):
        if os.fork() == 0:
            worker(number)
            os._exit(0)
    got = 0
    while got < WORKERS:
        got += len(os.read(ready_out, 4096))
    print(os.getpid(), flush=True)
    signal.alarm(600)
    while True:
        pool.map(abs, range(50))
        child()
        time.sleep(random.random() * 0.05)


if __name__ == "__main__":
    main()
