# Healthy: the parent takes a place, the child gives it back at its end.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")
places = mp.BoundedSemaphore(2)


def job(number):
    time.sleep(0.05 if number < 6 else 600)
    places.release()


if __name__ == "__main__":
    for number in range(9):
        if number == 8:
            print("ready", flush=True)
        places.acquire()
        mp.Process(target=job, args=(number,)).start()
    time.sleep(600)
