# Sick: a thread has the lock at the fork; in the children nobody ever releases it. The parent goes on.
import os
import threading
import time

lock = threading.Lock()
ready, forked = threading.Event(), threading.Event()


def refresh():
    with lock:
        ready.set()
        forked.wait()
    while True:
        time.sleep(0.2)


def check():
    with lock:  # waits
        os._exit(0)


threading.Thread(target=refresh, daemon=True).start()
ready.wait()
for _ in range(3):
    if os.fork() == 0:
        check()
forked.set()
while True:
    time.sleep(0.2)
