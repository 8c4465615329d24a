"""Two children that want one lock, and a private lock that is held; tells the children's pids. Ends when its standard
input does. It loads nothing of semtrace, whose use of ctypes is a sign of holders that are not Python.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time

context = multiprocessing.get_context("fork")
lock, guard = context.Lock(), threading.Lock()


def work() -> None:
    lock.acquire()
    time.sleep(600)


def main() -> None:
    children = []
    for _ in range(2):
        child = context.Process(target=work)
        child.start()
        children.append(child)
        time.sleep(2)
    print(*(child.pid for child in children), flush=True)
    with guard:
        sys.stdin.read()
    for child in children:
        child.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
