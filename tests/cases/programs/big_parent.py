# Orphaned: a child is killed with the lock of a parent that has much memory, which all children share.
import multiprocessing
import os
import signal

mp = multiprocessing.get_context("fork")
lock = mp.Lock()


def load(number):
    if number == 0:
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    lock.acquire()


if __name__ == "__main__":
    data = [bytes(1000) + str(number).encode() for number in range(400000)]
    first = mp.Process(target=load, args=(0,))
    first.start()
    first.join()
    rest = [mp.Process(target=load, args=(number,)) for number in range(1, 7)]
    for child in rest:
        child.start()
    for child in rest:
        child.join()
