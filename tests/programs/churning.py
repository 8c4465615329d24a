"""A server whose workers fail as soon as they are born: eight at a time, each for a fifth of a second."""

import multiprocessing
import os
import time

lock = multiprocessing.Lock()

while True:
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            with lock:
                time.sleep(0.02)
            time.sleep(0.2)
            os._exit(7)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
