# Healthy: imap takes its input from a generator that waits for what comes next; all workers are idle.
import multiprocessing
import socket
import sys
import time

mp = multiprocessing.get_context("fork")


def ticks():
    yield 1
    time.sleep(900)
    yield 2


def customers():
    yield 1
    server = socket.create_server(("127.0.0.1", 0))
    server.accept()
    yield 2


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        for result in pool.imap_unordered(abs, globals()[sys.argv[1]]()):
            print("ready", result, flush=True)
