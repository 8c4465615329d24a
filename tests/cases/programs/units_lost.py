# Sick: exceptions skip the release of a Semaphore's units; the workers of the Pool live and want more.
import multiprocessing

mp = multiprocessing.get_context("fork")
slots = mp.Semaphore(2)


def infer(number):
    slots.acquire()  # waits
    if number < 2:
        raise ValueError("bad sample")
    slots.release()
    return number


if __name__ == "__main__":
    with mp.Pool(3) as pool:
        for batch in (range(2), range(2, 6)):
            for result in [pool.apply_async(infer, (number,)) for number in batch]:
                try:
                    print(result.get())
                except ValueError as error:
                    print(error)
