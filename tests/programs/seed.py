"""The seed example: one lock, made before the fork, taken by every request."""

import multiprocessing

lock = multiprocessing.Lock()


def app(environ, start_response):
    with lock:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return [b"ok\n"]
