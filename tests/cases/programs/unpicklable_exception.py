# Sick (bpo-9400): an exception that cannot be unpickled kills the parent's result thread, and map never ends.
import multiprocessing

mp = multiprocessing.get_context("fork")


class Refused(Exception):
    def __init__(self, code, reason):
        super().__init__("refused")


def job(number):
    if number == 2:
        raise Refused(7, "no")
    return number


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        print(pool.map(job, range(4), chunksize=1))  # waits
