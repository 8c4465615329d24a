# Sick: a worker is killed with a lock of a Manager that the master has made; all the others wait for it.
import multiprocessing
import os
import signal

manager = multiprocessing.get_context("fork").Manager()
order_lock = manager.Lock()


def app(env, start):
    with order_lock:  # waits
        if env["PATH_INFO"] == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        start("200 OK", [])
        return [b"ok"]
