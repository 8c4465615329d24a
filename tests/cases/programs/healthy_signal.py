# Healthy: the main thread waits for an Event that its SIGTERM handler sets, next to an idle Pool.
import multiprocessing
import queue
import signal
import threading

mp = multiprocessing.get_context("fork")
stop = threading.Event()
jobs = queue.Queue()


def work():
    while jobs.get() is not None:
        pass


if __name__ == "__main__":
    pool = mp.Pool(2)
    print(pool.map(abs, [1, 2]))
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    stop.wait()
