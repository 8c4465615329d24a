# Sick: the main thread of a child has ended and waits for a thread that waits for an Event which nobody sets.
import multiprocessing
import threading

mp = multiprocessing.get_context("fork")


def child():
    stop = threading.Event()
    threading.Thread(target=stop.wait, name="cache-job").start()


if __name__ == "__main__":
    worker = mp.Process(target=child)
    worker.start()
    worker.join()
