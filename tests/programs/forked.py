"""A child that sleeps for ever, of the way of forking that the first argument names: its pid is printed.

Runs on Python 3.8 and later.
"""

import multiprocessing
import os
import socketserver
import sys
import threading
from os import fork

lock = threading.Lock()
lock.acquire()


def work(out):
    os.write(out, f"{os.getpid()}\n".encode())
    lock.acquire()


def by_process(out):
    child = multiprocessing.get_context("fork").Process(target=work, args=(out,))
    child.start()
    child.join()


def by_hand(out):
    pid = os.fork()
    if pid == 0:
        work(out)
    os.waitpid(pid, 0)


def by_name(out):
    pid = fork()
    if pid == 0:
        work(out)
    os.waitpid(pid, 0)


def by_server(out):
    class Server(socketserver.ForkingMixIn, socketserver.BaseServer):
        def finish_request(self, request, address):
            work(out)

    server = Server(("", 0), None)
    server.process_request(None, None)
    lock.acquire()


if __name__ == "__main__":
    globals()[sys.argv[1]](1)
