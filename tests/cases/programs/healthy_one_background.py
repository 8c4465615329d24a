# Healthy: gunicorn -w 2 -k sync: each worker has one background thread, as $KIND says: a job loop, a QueueListener,
# an Event, an idle pool.
import logging
import logging.handlers
import os
import queue
import threading

jobs, stop = queue.Queue(), threading.Event()


def work():
    while True:
        jobs.get()


if os.environ["KIND"] == "loop":
    threading.Thread(target=work, daemon=True).start()
elif os.environ["KIND"] == "listener":
    logging.handlers.QueueListener(jobs, logging.NullHandler()).start()
elif os.environ["KIND"] == "event":
    threading.Thread(target=stop.wait, daemon=True).start()
elif os.environ["KIND"] == "pool":
    import concurrent.futures

    kept = concurrent.futures.ThreadPoolExecutor(2)
    list(kept.map(abs, range(4)))


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("Connection", "close")])
    return [b"ok"]
