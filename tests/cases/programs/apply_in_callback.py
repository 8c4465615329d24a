# Sick: a callback of a Pool runs in the thread that takes results in. It waits there for a result of the same Pool.
import multiprocessing

mp = multiprocessing.get_context("fork")


def job(number):
    return number


if __name__ == "__main__":
    with mp.Pool(2) as pool:

        def more(result):
            print(pool.apply(job, (result + 1,)))  # waits in the callback

        first = pool.apply_async(job, (1,), callback=more)
        first.wait()
        print(pool.apply(job, (3,)))  # waits
