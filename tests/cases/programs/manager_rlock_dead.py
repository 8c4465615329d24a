# Sick: a client is killed with a Manager's RLock. The others have used the manager before, so that no new thread of it
# gets the identity of the one that died.
import multiprocessing
import os
import signal

mp = multiprocessing.get_context("fork")


def take_and_die(lock, ready):
    ready.wait()
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def want(lock, ready):
    lock.acquire()
    lock.release()
    ready.wait()
    taken.wait()
    with lock:  # waits
        pass


if __name__ == "__main__":
    manager = mp.Manager()
    lock = manager.RLock()
    ready, taken = mp.Barrier(3), mp.Event()
    others = [mp.Process(target=want, args=(lock, ready)) for _ in range(2)]
    first = mp.Process(target=take_and_die, args=(lock, ready))
    for each in [*others, first]:
        each.start()
    first.join()
    taken.set()
    print("ready", [other.pid for other in others], flush=True)
    for other in others:
        other.join()
