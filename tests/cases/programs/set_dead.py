# Sick: the same by Event.set, called in a thread, the killed one never reaped.
import multiprocessing
import os
import signal
import threading
import time

mp = multiprocessing.get_context("fork")


class Gate:
    def __init__(self):
        self.opened = mp.Event()

    def enter(self):
        self.opened.wait()

    def open(self):
        self.opened.set()


if __name__ == "__main__":
    gate = Gate()
    visitors = [mp.Process(target=gate.enter) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    while gate.opened._cond._sleeping_count.get_value() < 2:
        time.sleep(0.01)
    os.kill(visitors[1].pid, signal.SIGKILL)
    opener = threading.Thread(target=gate.open)
    opener.start()
    opener.join()
