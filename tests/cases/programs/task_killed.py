# Lost: a worker of a Pool is killed in its task, and map never returns.
import multiprocessing
import os
import signal

mp = multiprocessing.get_context("fork")


def heavy(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        print(pool.map(heavy, range(5)))  # waits
