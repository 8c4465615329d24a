# Sick after GET /: the worker keeps a shared lock and waits for its next request; another process wants it.
import multiprocessing
import os

mp = multiprocessing.get_context("fork")
stock_lock = mp.Lock()
read_end, write_end = os.pipe()


def report():
    os.read(read_end, 1)
    stock_lock.acquire()  # waits


reporter = mp.Process(target=report, daemon=True)
reporter.start()


def app(env, start):
    stock_lock.acquire()
    os.write(write_end, b"x")
    raise ValueError("bad input")
