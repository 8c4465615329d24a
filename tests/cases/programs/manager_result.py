# Sick: a worker is killed before it puts its result into a Manager's queue.
import multiprocessing
import os
import signal

mp = multiprocessing.get_context("fork")


def work(jobs, results):
    while True:
        job = jobs.get()
        if job == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        results.put(job)


if __name__ == "__main__":
    manager = mp.Manager()
    jobs, results = manager.Queue(), manager.Queue()
    for _ in range(2):
        mp.Process(target=work, args=(jobs, results), daemon=True).start()
    for job in range(3):
        jobs.put(job)
    print("ready", flush=True)
    print([results.get() for _ in range(3)])  # waits
