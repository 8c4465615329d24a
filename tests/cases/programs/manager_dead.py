# Sick: a client is killed with a Manager's lock, the others wait for their proxies.
import importlib
import os
import signal
import sys

mp = importlib.import_module(sys.argv[1] if sys.argv[1:] else "multiprocessing").get_context("fork")


def take_and_die(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def want(lock):
    with lock:  # waits
        pass


if __name__ == "__main__":
    manager = mp.Manager()
    lock = manager.Lock()
    first = mp.Process(target=take_and_die, args=(lock,))
    first.start()
    first.join()
    others = [mp.Process(target=want, args=(lock,), name="waiter") for _ in range(2)]
    for other in others:
        other.start()
    print("ready", [other.pid for other in others], flush=True)
    for other in others:
        other.join()
