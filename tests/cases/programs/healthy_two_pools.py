# Healthy: two Pools by fork, one after the other. The workers of the second map the locks of the first alone.
import multiprocessing
import sys
import time


def job(number):
    return number


def slow(number):
    time.sleep(600)


def main(workers):
    context = multiprocessing.get_context("fork")
    with context.Pool(workers) as pool:
        numbers = pool.map(job, range(6))
    with context.Pool(workers) as pool:
        result = pool.map_async(slow, numbers)
        print("ready", flush=True)
        result.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
