# Sick: the same with an executor of concurrent.futures, and a lock that only a closure knows.
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor


def counter():
    guard = threading.Lock()

    def refresh(ready, forked):
        with guard:
            ready.set()
            forked.wait()
        while True:
            time.sleep(0.2)

    def add(number):
        with guard:  # waits
            return number

    return refresh, add


refresh, add = counter()


def task(number):
    return add(number)


if __name__ == "__main__":
    ready, forked = threading.Event(), threading.Event()
    threading.Thread(target=refresh, args=(ready, forked), daemon=True).start()
    ready.wait()
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    results = [executor.submit(task, number) for number in range(4)]
    while len(executor._processes) < 2:
        time.sleep(0.01)
    forked.set()
    print([result.result() for result in results])
