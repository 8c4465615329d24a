"""A WSGI application with two locks: `/there` and `/back` are their orders, `/gated/…` takes a third around them."""

import contextlib
import multiprocessing

first, second, gate = multiprocessing.Lock(), multiprocessing.Lock(), multiprocessing.RLock()


def app(environ, start_response):
    path = environ["PATH_INFO"]
    with gate if path.startswith("/gated") else contextlib.nullcontext():
        for _ in range(20):
            if path.endswith("/back"):
                with second, first:
                    pass
            else:
                with first, second:
                    pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
