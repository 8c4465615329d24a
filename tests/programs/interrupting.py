"""A signal handler that sleeps for ever, after it has interrupted a function; the argument says which. Prints `ready`.

Runs on Python 3.8 and later.
"""

import functools
import os
import signal
import sys
import threading

lock = threading.Lock()
lock.acquire()


def sleep():
    print("ready", flush=True)
    lock.acquire()


def plain(number, frame):
    sleep()


def keeping(number, frame):
    (lambda: frame)()
    sleep()


class Handler:
    def on_signal(self, *_):
        sleep()


def bound(number, frame):
    sleep()


def outer(extra, number, frame):
    sleep()


def passing(number, frame):
    looks_like_one(number, frame)


def looks_like_one(number, frame):
    sleep()


def no_handler():
    called(signal.SIGUSR1, sys._getframe(1))


def called(number, frame):
    depth, caller = 1, sys._getframe(1)
    sleep()
    return depth, caller


HANDLERS = {
    "plain": plain,
    "keeping": keeping,
    "method": Handler().on_signal,
    "anything": lambda *_: sleep(),
    "partial": functools.partial(outer, "x"),
    "passing": passing,
}


def busy():
    os.kill(os.getpid(), signal.SIGUSR1)
    while True:
        pass


if __name__ == "__main__":
    if sys.argv[1] in HANDLERS:
        signal.signal(signal.SIGUSR1, HANDLERS[sys.argv[1]])
        busy()
    no_handler()
