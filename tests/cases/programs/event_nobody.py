# Sick: everybody waits for an Event, and who would set it was killed.
import multiprocessing
import os
import signal

mp = multiprocessing.get_context("fork")
loaded = mp.Event()


def load():
    os.kill(os.getpid(), signal.SIGKILL)
    loaded.set()


def train():
    loaded.wait()  # waits


if __name__ == "__main__":
    for job in (train, train, load):
        mp.Process(target=job).start()
    loaded.wait()
