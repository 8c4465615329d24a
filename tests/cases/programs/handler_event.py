# Sick on SIGTERM: the handler sets the Event for which the same thread waits.
import multiprocessing
import signal

mp = multiprocessing.get_context("fork")
stop = mp.Event()


def on_term(*_):
    stop.set()


def train():
    signal.signal(signal.SIGTERM, on_term)
    print("ready", flush=True)
    stop.wait()


if __name__ == "__main__":
    child = mp.Process(target=train)
    child.start()
    child.join()
