# The seed's own program. LOCK: threading or multiprocessing. STYLE: try (acquire(False)) or with.
import multiprocessing
import os
import threading
import time

lock = threading.Lock() if os.environ["LOCK"] == "threading" else multiprocessing.Lock()


def attempt():
    if not lock.acquire(False):
        return b"busy"
    time.sleep(60)  # holds by acquire
    lock.release()
    return b"locked"


def waiting():
    with lock:
        time.sleep(60)  # holds by with
        return b"locked"


def app(env, start):
    body = attempt() if os.environ["STYLE"] == "try" else waiting()
    start("200 OK", [])
    return [body]
