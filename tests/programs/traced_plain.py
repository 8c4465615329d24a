"""A WSGI application that knows nothing of semtrace."""

import multiprocessing
import os

lock = multiprocessing.Lock()


def application(environ, start_response):
    with lock:
        pid = os.getpid()
    body = b"%d" % pid
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
