# Sick: the same with spawn, the lock passed on, and the parent waiting by os.waitpid.
import multiprocessing
import os

mp = multiprocessing.get_context("spawn")


def save(lock):
    lock.acquire()
    lock.release()


if __name__ == "__main__":
    disk_lock = mp.Lock()
    disk_lock.acquire()
    child = mp.Process(target=save, args=(disk_lock,))
    child.start()
    os.waitpid(child.pid, 0)
