# Sick (bpo-23278): the initializer of a Pool raises, so each worker ends at once, and a new one is made, without end.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")


def prepare():
    time.sleep(0.3)  # hundreds of processes a second would use up the numbers that other tests' processes have had
    raise OSError("no such table")


def job(number):
    return number


if __name__ == "__main__":
    with mp.Pool(2, initializer=prepare) as pool:
        print(pool.map(job, range(4)))  # waits
