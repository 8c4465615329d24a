# Healthy: a bounded queue is full, its producers wait while the consumer takes its time.
import multiprocessing
import time

mp = multiprocessing.get_context("fork")


def produce(jobs):
    for number in range(100):
        jobs.put(number)


def consume(jobs):
    time.sleep(600)
    jobs.get()


if __name__ == "__main__":
    jobs = mp.Queue(3)
    for job in (consume, produce, produce):
        mp.Process(target=job, args=(jobs,)).start()
    while not jobs.full():
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(600)
