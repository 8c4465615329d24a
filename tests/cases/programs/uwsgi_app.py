# Wrong lock: a threading.Lock in the workers of uWSGI.
import threading
import time

list_lock = threading.Lock()


def application(env, start):
    with list_lock:
        time.sleep(2)
    start("200 OK", [])
    return [b"ok"]
