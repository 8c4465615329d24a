# Healthy: the idle pool of a library, which the first argument names.
import sys
import time


def job(number):
    return number


def billiard():
    import billiard

    pool = billiard.Pool(2)
    pool.map(job, range(4))
    return pool


def multiprocess():
    import multiprocess

    pool = multiprocess.Pool(3)
    pool.map(job, range(4))
    return pool


def loky():
    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=2, timeout=None)
    list(pool.map(job, range(4)))
    return pool


def joblib():
    import joblib

    pool = joblib.Parallel(n_jobs=2)
    pool(joblib.delayed(abs)(n) for n in range(4))
    return pool


def pebble():
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=2)
    pool.schedule(job, args=[1]).result()
    return pool


if __name__ == "__main__":
    pool = globals()[sys.argv[1]]()
    print("ready", flush=True)
    time.sleep(600)
