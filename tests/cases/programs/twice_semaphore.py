# Sick: the same in a child of os.fork, by a Condition over a plain Lock, in an object.
import os
import threading
import time


class Store:
    def __init__(self):
        self.changed = threading.Condition(threading.Lock())

    def size(self):
        with self.changed:  # waits
            return 1

    def grow(self):
        with self.changed:
            return self.size()


store = Store()
if os.fork() == 0:
    store.grow()
time.sleep(600)
