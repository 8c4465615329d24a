# Sick: a greenlet keeps a real lock while it sleeps, the next one blocks the worker with all its greenlets.
import threading
import time

ledger_lock = threading.Lock()


def app(env, start):
    with ledger_lock:
        time.sleep(600)
    start("200 OK", [])
    return [b"ok"]
