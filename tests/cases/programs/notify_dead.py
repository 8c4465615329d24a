# Sick: a sleeper in a Condition was killed; notify_all waits for it, and everybody else for the notifier.
import multiprocessing
import os
import signal
import time

mp = multiprocessing.get_context("fork")
ready = mp.Condition()


def consume():
    with ready:
        ready.wait()


if __name__ == "__main__":
    sleepers = [mp.Process(target=consume) for _ in range(3)]
    for sleeper in sleepers:
        sleeper.start()
    while ready._sleeping_count.get_value() < 3:
        time.sleep(0.01)
    os.kill(sleepers[0].pid, signal.SIGKILL)
    sleepers[0].join()
    with ready:
        ready.notify_all()  # waits
