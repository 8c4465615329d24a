# Sick after GET /empty: an early return, in a method of an object, with a lock that only the object knows.
import threading


class Cart:
    def __init__(self):
        self._guard = threading.BoundedSemaphore(1)

    def total(self, items):
        self._guard.acquire()
        if not items:
            return 0
        self._guard.release()
        return len(items)


shop = {"cart": Cart()}


def app(env, start):
    shop["cart"].total([] if env["PATH_INFO"] == "/empty" else [1])
    start("200 OK", [])
    return [b"ok"]
