"""A Celery application with locks. Needs Celery; its broker is in memory."""

import multiprocessing
import threading

import billiard
import celery

app = celery.Celery("names_celery", broker="memory://", backend="cache+memory://")
lock = multiprocessing.Lock()
pool_lock = billiard.Lock()
private = threading.Lock()


@app.task
def work(number, guard=multiprocessing.BoundedSemaphore(2)):  # noqa: B008
    with lock, guard:
        return number
