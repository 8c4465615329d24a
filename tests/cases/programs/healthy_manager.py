# Healthy: clients of a Manager wait for a lock that another one holds for a while, for work, or have lost the manager.
import multiprocessing
import os
import signal
import sys
import time

mp = multiprocessing.get_context("fork")


def hold(lock, taken):
    with lock:
        taken.set()
        time.sleep(600)  # holds


def want(lock, taken):
    taken.wait()
    with lock:  # waits
        pass


def work(queue):
    while True:
        queue.get()


def lose(lock, taken):
    lock.acquire()
    taken.set()
    try:
        lock.acquire()
    except (EOFError, ConnectionResetError):
        time.sleep(600)


def locks(lock):
    taken = mp.Event()
    return [mp.Process(target=hold, args=(lock, taken)), mp.Process(target=want, args=(lock, taken))]


if __name__ == "__main__":
    manager = mp.Manager()
    what = sys.argv[1]
    if what == "queue":
        queue = manager.Queue()
        children = [mp.Process(target=work, args=(queue,)) for _ in range(2)]
    elif what == "killed":
        lock, taken = manager.Lock(), mp.Event()
        children = [mp.Process(target=lose, args=(lock, taken))]
    else:
        guard = getattr(manager, what)()
        children = locks(guard)
    for child in children:
        child.start()
    if what == "killed":
        taken.wait()
        os.kill(manager._process.pid, signal.SIGKILL)
        manager._process.join()
    print("ready", [child.pid for child in children], flush=True)
    time.sleep(600)
