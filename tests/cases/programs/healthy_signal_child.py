# Healthy: a child waits for a shared Event until a signal comes, its parent joins it.
import multiprocessing
import signal

mp = multiprocessing.get_context("fork")
stop = mp.Semaphore(0)


def train():
    signal.signal(signal.SIGTERM, lambda *_: stop.release())
    print("ready", flush=True)
    stop.acquire()


if __name__ == "__main__":
    child = mp.Process(target=train)
    child.start()
    child.join()
