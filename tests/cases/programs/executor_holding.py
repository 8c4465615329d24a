# Sick: the main thread holds a lock while it waits for jobs that need it.
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

mp = multiprocessing.get_context("fork")
ledger = mp.Lock()


def book(entry):
    with ledger:  # waits
        return entry


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=mp) as executor, ledger:
        print(list(executor.map(book, range(4))))
