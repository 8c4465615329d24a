# Sick: the only thread takes a lock that it has.
import threading

cache_lock = threading.Lock()


def refresh():
    with cache_lock:
        cache_lock.acquire()  # waits


refresh()
