# Orphaned: the worker of an idle Pool that reads the pipe is killed.
import multiprocessing
import os
import signal
import time

mp = multiprocessing.get_context("fork")


def main():
    pool = mp.Pool(3)  # forks

    def reading(pid):
        return open(f"/proc/{pid}/wchan").read().endswith("pipe_read")

    first = []
    while not first:
        first = [worker.pid for worker in pool._pool if reading(worker.pid)]
        time.sleep(0.01)
    os.kill(first[0], signal.SIGKILL)
    while any(worker.pid == first[0] for worker in pool._pool):
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
