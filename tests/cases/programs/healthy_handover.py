# Healthy: a lock is taken by one process and released by another, as a baton.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")
baton = mp.Lock()


def runner():
    for _ in range(3):
        time.sleep(0.05)
    baton.release()
    time.sleep(600)


if __name__ == "__main__":
    baton.acquire()
    mp.Process(target=runner).start()
    baton.acquire()
    last = mp.Process(target=time.sleep, args=(600,))
    last.start()
    print("ready", flush=True)
    time.sleep(600)
