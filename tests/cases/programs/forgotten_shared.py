# Sick after GET /bad: a shared lock is kept by a worker that serves on, until it wants the lock again.
import multiprocessing

stock_lock = multiprocessing.Lock()


def app(env, start):
    stock_lock.acquire()  # waits
    if env["PATH_INFO"] == "/bad":
        raise ValueError("bad input")
    stock_lock.release()
    start("200 OK", [])
    return [b"ok"]
