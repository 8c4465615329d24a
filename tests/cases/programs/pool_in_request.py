# GET /keep: an idle Pool, healthy. GET /pool: a Pool forked while a thread has a lock that its tasks need.
import multiprocessing
import threading
import time

mp = multiprocessing.get_context("fork")
cache_lock = threading.Lock()
kept = []


def refresh(inside):
    with cache_lock:
        inside.set()
        time.sleep(1.5)


def check(number):
    with cache_lock:  # waits
        return number


def app(env, start):
    if env["PATH_INFO"] == "/pool":
        inside = threading.Event()
        threading.Thread(target=refresh, args=(inside,), daemon=True).start()
        inside.wait()
        with mp.Pool(3) as pool:
            pool.map(check, range(6), 1)  # forks
    else:
        kept.append(mp.Pool(3))
    start("200 OK", [])
    return [b"ok"]
