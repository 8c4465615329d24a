# Lost: the same by sys.exit of a library, in a thread that waits for one result.
import multiprocessing
import os
import threading
import time

mp = multiprocessing.get_context("fork")


def convert(name):
    os._exit(1)


def ask(pool):
    print(pool.apply_async(convert, ("a.png",)).get())


if __name__ == "__main__":
    pool = mp.Pool(2, maxtasksperchild=100)
    threading.Thread(target=ask, args=(pool,), daemon=True).start()
    while True:
        time.sleep(1)
