# Slow: a thread of the master has the shared lock, all workers wait. It may end, but nobody is served.
import multiprocessing
import threading
import time

mp = multiprocessing.get_context("fork")
order_lock = mp.Lock()


def export():
    with order_lock:
        time.sleep(600)  # holds


threading.Thread(target=export, daemon=True).start()
while order_lock.acquire(False):
    order_lock.release()


def app(env, start):
    with order_lock:  # waits
        start("200 OK", [])
        return [b"ok"]
