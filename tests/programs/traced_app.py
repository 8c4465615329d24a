"""A WSGI application with traced locks: /add works under the lock, /hold keeps it, /die is killed inside it."""

import multiprocessing
import os
import signal
import threading

import semtrace

lock = semtrace.Lock("app.lock")
bounded = semtrace.BoundedSemaphore(2, "app.bounded")
total = multiprocessing.Value("q", 0, lock=False)
never = threading.Event()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/add":
        with lock:
            total.value += 1
        with bounded:
            pass
    elif path == "/hold":
        with lock:
            never.wait(60)
    elif path == "/die":
        with lock:
            os.kill(os.getpid(), signal.SIGKILL)
    body = b"%d %d" % (os.getpid(), total.value)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
