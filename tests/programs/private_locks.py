"""An application with a lock that its workers share and two that they do not. Standard library only."""

import multiprocessing
import threading

shared = multiprocessing.get_context("fork").Lock()
guard = threading.Lock()
settings = {"guard": threading.RLock()}


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
