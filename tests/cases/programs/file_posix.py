# Slow: the same with a record lock of fcntl, in processes of multiprocessing.
import fcntl
import multiprocessing
import sys
import time

mp = multiprocessing.get_context("fork")


def take(path):
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)  # waits
        print("ready", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    open(sys.argv[1], "wb").close()
    workers = [mp.Process(target=take, args=(sys.argv[1],)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
