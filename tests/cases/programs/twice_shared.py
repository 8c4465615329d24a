# Sick: a child takes a shared lock twice, its sibling and the parent are behind it.
import multiprocessing

mp = multiprocessing.get_context("fork")
ledger = mp.Lock()


def book():
    ledger.acquire()
    ledger.acquire()


def read():
    while True:
        with ledger:
            pass


if __name__ == "__main__":
    first = mp.Process(target=book)
    first.start()
    while ledger.acquire(False):
        ledger.release()
    second = mp.Process(target=read)
    second.start()
    first.join()
