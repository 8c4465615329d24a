# Slow on SIGHUP: old workers of gunicorn wait for a thread at their end.
import threading

stop = threading.Event()


def job():
    while not stop.is_set():
        stop.wait(3600)


threading.Thread(target=job, name="cache-job").start()


def app(env, start):
    start("200 OK", [])
    return [b"ok"]
