# Healthy: a cache of each process, guarded against its own threads. GET /slow holds it for long.
import threading
import time

cache_lock = threading.Lock()
cache = {}


def app(env, start):
    if env["PATH_INFO"] == "/slow":
        with cache_lock:
            time.sleep(600)
            cache[1] = 2
    start("200 OK", [])
    return [b"ok"]
