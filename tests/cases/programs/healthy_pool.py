# Healthy: an idle Pool, by the start method of the first argument.
import multiprocessing
import sys
import time


def job(number):
    return number


if __name__ == "__main__":
    pool = multiprocessing.get_context(sys.argv[1]).Pool(3)
    pool.map(job, range(6))
    print("ready", flush=True)
    time.sleep(600)
