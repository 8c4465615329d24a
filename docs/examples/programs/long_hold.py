"""A process holds a lock for a minute."""

import multiprocessing
import time

fork = multiprocessing.get_context("fork")
lock = fork.Lock()


def work() -> None:
    with lock:
        time.sleep(60)


if __name__ == "__main__":
    for _ in range(2):
        fork.Process(target=work, daemon=True).start()
    time.sleep(60)
