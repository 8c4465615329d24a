# Stopped: idle workers of loky are stopped, and a caller waits for their results.
import os
import signal

from loky import get_reusable_executor


def job(number):
    return number


if __name__ == "__main__":
    executor = get_reusable_executor(max_workers=2, timeout=None)
    list(executor.map(job, range(4)))
    for pid in list(executor._processes):
        os.kill(pid, signal.SIGSTOP)
    print("ready", flush=True)
    print(list(executor.map(job, range(4))))
