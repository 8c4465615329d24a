# Lost: a worker of a spawned Pool is killed in its task; beside the workers there is the resource tracker.
import multiprocessing
import os
import signal
import sys


def heavy(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


if __name__ == "__main__":
    mp = multiprocessing.get_context(sys.argv[1])
    with mp.Pool(2) as pool:
        print(pool.map(heavy, range(4), chunksize=1))  # waits
