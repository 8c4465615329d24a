# Wrong lock: the same by acquire(False) and behind an ExitStack, in processes of multiprocessing. Never "inherited".
import contextlib
import multiprocessing
import threading
import time

mp = multiprocessing.get_context("fork")


class Shop:
    stock = threading.RLock()


def sell():
    while True:
        with contextlib.ExitStack() as stack:
            if Shop.stock.acquire(False):
                stack.callback(Shop.stock.release)
                time.sleep(2)
        time.sleep(0.01)


if __name__ == "__main__":
    workers = [mp.Process(target=sell) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
