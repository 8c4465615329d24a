# Sick: a client for telemetry is locked by a thread of the parent while the pool forks.
import threading
import time

from celery import Celery
from celery.signals import worker_init, worker_ready

app = Celery("jobs", broker="memory://")


class Batcher:
    def __init__(self):
        self._lock, self.items = threading.Lock(), []

    def begin(self):
        inside = threading.Event()
        threading.Thread(target=self.serialise, args=(inside,), daemon=True).start()
        inside.wait()

    def serialise(self, inside):
        with self._lock:
            inside.set()
            time.sleep(4)
        while True:
            time.sleep(1)

    def add(self, item):
        with self._lock:  # waits
            self.items.append(item)


batcher = Batcher()


@app.task
def work(number):
    batcher.add(number)


@worker_init.connect
def begin(**_):
    batcher.begin()


@worker_ready.connect
def ready(**_):
    for number in range(4):
        work.delay(number)
