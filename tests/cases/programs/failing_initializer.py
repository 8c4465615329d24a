# Sick (bpo-23278): the initializer of a Pool raises, so each worker ends at once, and a new one is made, without end.
import multiprocessing

mp = multiprocessing.get_context("fork")


def prepare():
    raise OSError("no such table")


def job(number):
    return number


if __name__ == "__main__":
    with mp.Pool(2, initializer=prepare) as pool:
        print(pool.map(job, range(4)))  # waits
