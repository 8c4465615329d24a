# Lost: a worker of the package multiprocess is killed in its task.
import os
import signal

import multiprocess as mp


def heavy(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        print(pool.map(heavy, range(5)))
