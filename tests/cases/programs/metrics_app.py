# Sick: a library's lock (prometheus_client's, known only to a closure) is held by a thread while the workers fork.
import threading

from prometheus_client import Counter

hits = Counter("hits", "requests")
inside, forked = threading.Event(), threading.Event()
cell = next(c for c in type(hits._value).inc.__closure__ if hasattr(c.cell_contents, "acquire"))


def tick():
    with cell.cell_contents:
        inside.set()
        forked.wait()


threading.Thread(target=tick, daemon=True).start()
inside.wait()


def app(env, start):
    hits.inc()  # waits
    start("200 OK", [])
    return [b"ok"]
