# Slow: a report holds a lock behind a context manager, others wait. It would end.
import contextlib
import threading
import time

lock = threading.Lock()


@contextlib.contextmanager
def exclusive():
    with lock:
        yield


def report():
    with exclusive():
        time.sleep(600)  # holds


def quick():
    with exclusive():
        pass


first = threading.Thread(target=report, daemon=True)
first.start()
while not lock.locked():
    time.sleep(0.01)
threading.Thread(target=quick, daemon=True).start()
time.sleep(600)
