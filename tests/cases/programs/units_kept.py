# Sick: an early return keeps a unit of a BoundedSemaphore, in processes that the parent joins.
import multiprocessing

mp = multiprocessing.get_context("fork")


class Gpu:
    places = mp.BoundedSemaphore(2)


def use(number):
    Gpu.places.acquire()  # waits
    if number % 2:
        return
    Gpu.places.release()


def work(start):
    for number in range(start, 100):
        use(number)


if __name__ == "__main__":
    workers = [mp.Process(target=work, args=(start,)) for start in (1, 3, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
