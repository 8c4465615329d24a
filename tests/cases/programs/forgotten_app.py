# Sick after GET /bad: an exception between acquire() and release(); the worker's next request waits.
import threading

session_lock = threading.Lock()


def app(env, start):
    session_lock.acquire()  # waits
    if env["PATH_INFO"] == "/bad":
        raise ValueError("bad input")
    session_lock.release()
    start("200 OK", [])
    return [b"ok"]
