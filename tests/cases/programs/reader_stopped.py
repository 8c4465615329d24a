# Stopped: the reader of a queue; the others wait for its lock, and nobody gets a job.
import multiprocessing
import os
import signal
import time

mp = multiprocessing.get_context("fork")


def work(jobs):
    while True:
        jobs.get()


if __name__ == "__main__":
    jobs = mp.Queue()
    workers = [mp.Process(target=work, args=(jobs,)) for _ in range(3)]
    for worker in workers:
        worker.start()

    def reading(pid):
        return open(f"/proc/{pid}/wchan").read().endswith("pipe_read")

    while not any(reading(worker.pid) for worker in workers):
        time.sleep(0.01)
    for worker in workers:
        if reading(worker.pid):
            os.kill(worker.pid, signal.SIGSTOP)
    jobs.put(1)
    time.sleep(600)
