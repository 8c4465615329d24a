# Healthy: idle executors with processes and threads.
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def job(number):
    return number


if __name__ == "__main__":
    processes, threads = ProcessPoolExecutor(2), ThreadPoolExecutor(2)
    list(processes.map(job, range(4))), list(threads.map(job, range(4)))
    print("ready", flush=True)
    time.sleep(600)
