# Slow: a thread of the master has taken the shared lock after the fork, all workers wait. It may end.
import multiprocessing
import os
import threading
import time

order_lock = multiprocessing.Lock()


def export():
    while len(open(f"/proc/self/task/{os.getpid()}/children").read().split()) < 3:
        time.sleep(0.05)
    with order_lock:
        time.sleep(600)  # holds


threading.Thread(target=export, daemon=True).start()


def app(env, start):
    with order_lock:  # waits
        start("200 OK", [])
        return [b"ok"]
