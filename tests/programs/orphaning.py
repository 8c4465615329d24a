"""A WSGI application whose /hold takes the lock and keeps it, and whose /use waits for it."""

import multiprocessing
import os
import time

lock = multiprocessing.Lock()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        lock.acquire()
    else:
        with lock:
            time.sleep(0.05)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
