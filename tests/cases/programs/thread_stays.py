# Slow: the same, but the thread waits with a timeout. It may end.
import multiprocessing
import threading

mp = multiprocessing.get_context("fork")


def job(stop):
    while not stop.wait(3600):
        pass


def child():
    threading.Thread(target=job, args=(threading.Event(),), name="cache-job").start()


if __name__ == "__main__":
    workers = [mp.Process(target=child) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
