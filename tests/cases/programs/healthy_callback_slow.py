# Healthy: the callback of a Pool's result takes its time in the result thread, while main waits for a result behind it.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")


def store(result):
    time.sleep(900)


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        pool.apply_async(abs, (1,), callback=store)
        time.sleep(0.5)
        print("ready", flush=True)
        pool.apply_async(abs, (2,)).get()
