"""Clients of a Manager, one case: prints the PIDs of the client that holds the lock and of the one that waits."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.managers import SyncManager

mp = multiprocessing.get_context("fork")


def started(target, *args):
    process = mp.Process(target=target, args=args)
    process.start()
    return process


def hold(lock, taken, threads=0):
    for _ in range(threads):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    lock.acquire()
    taken.set()
    time.sleep(600)


def want(lock, taken, args=()):
    lock.acquire()
    lock.release()
    connected.set()
    taken.wait()
    lock.acquire(*args)


def take_and_die(lock, taken):
    lock.acquire()
    taken.set()
    os.kill(os.getpid(), signal.SIGKILL)


def wants_after(manager, lock, args=(), holder=hold, more=()):
    """Start one that waits, whose thread of the manager is there first, and then one that holds."""
    kept.append(lock)
    waiter = started(want, lock, taken, args)
    connected.wait()
    return started(holder, lock, taken, *more), waiter


def rlock(folder):
    manager = mp.Manager()
    return manager, *wants_after(manager, manager.RLock())


def rlock_threads(folder):
    manager = mp.Manager()
    return manager, *wants_after(manager, manager.RLock(), more=(2,))


def timed(folder):
    manager = mp.Manager()
    return manager, *wants_after(manager, manager.Lock(), (True, 600))


def embrace(first, second):
    both = threading.Barrier(2)

    def take(one, other):
        with one:
            both.wait()
            other.acquire()

    threads = [threading.Thread(target=take, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()


def ring(folder):
    manager = mp.Manager()
    kept.extend([manager.RLock(), manager.RLock()])
    child = started(embrace, *kept)
    return manager, child, child


def network(folder):
    manager = SyncManager(("127.0.0.1", 0), ctx=mp)
    manager.start()
    return manager, *wants_after(manager, manager.Lock(), holder=take_and_die)


def network_rlock(folder):
    manager = SyncManager(("127.0.0.1", 0), ctx=mp)
    manager.start()
    return manager, *wants_after(manager, manager.RLock())


def address(folder):
    manager = SyncManager(folder + "/manager", ctx=mp)
    manager.start()
    return manager, *wants_after(manager, manager.Lock(), holder=take_and_die)


def again(folder):
    """After the holder's death a new thread of the manager gets its identity, which glibc gives to one of the next."""
    manager = mp.Manager()
    lock = manager.RLock()
    holder, waiter = wants_after(manager, lock, holder=take_and_die)
    holder.join()
    time.sleep(1.5)
    kept.append(manager.dict())
    used = mp.Barrier(4)
    users = [started(use, kept[-1], used) for _ in range(3)]
    used.wait()
    return manager, users[0], waiter


def hand(lock, taken, go):
    lock.acquire()
    taken.set()
    while not os.path.exists(go):
        time.sleep(0.05)
    lock.release()


def grab(lock, taken):
    taken.wait()
    lock.acquire()
    time.sleep(600)


def handed(folder):
    """The first of two that wait gets the lock, and the one that had it has ended."""
    manager = mp.Manager()
    kept.append(manager.RLock())
    holder = started(hand, kept[0], taken, folder + "/go")
    first, second = (started(grab, kept[0], taken) for _ in range(2))
    return manager, holder, first, second


def use(names, used):
    names["a"] = 1
    used.wait()
    signal.pause()


taken, connected = mp.Event(), mp.Event()
kept = []  # what nobody has a proxy of is gone
if __name__ == "__main__":
    manager, holder, *waiters = globals()[sys.argv[1]](sys.argv[2])
    if sys.argv[1] in ("network", "address"):
        holder.join()
    print(holder.pid, manager._process.pid, *(waiter.pid for waiter in waiters), flush=True)
    for waiter in waiters:
        waiter.join()
