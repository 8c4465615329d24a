# Healthy: workers stand at a gate (a Semaphore, an Event) that the parent will open.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")
gate, go = mp.Semaphore(0), mp.Event()


def enter():
    gate.acquire()


def start():
    go.wait()


if __name__ == "__main__":
    for job in (enter, enter, start):
        mp.Process(target=job).start()
    print("ready", flush=True)
    time.sleep(600)
