# Healthy: a bounded queue of the named package is full and its producer has ended; the consumer takes its time.
import importlib
import sys
import time

mp = importlib.import_module(sys.argv[1]).get_context("fork")


def produce(jobs):
    for number in range(4):
        jobs.put(number)


def consume(jobs):
    time.sleep(600)


if __name__ == "__main__":
    jobs = mp.Queue(4)
    producer = mp.Process(target=produce, args=(jobs,))
    producer.start()
    producer.join()
    mp.Process(target=consume, args=(jobs,), daemon=True).start()
    print("ready", flush=True)
    time.sleep(600)
