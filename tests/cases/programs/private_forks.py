# Wrong lock: three forks of a script each hold "the" lock at once.
import os
import threading
import time

report_lock = threading.Lock()


def serve():
    while True:
        with report_lock:
            time.sleep(2)  # holds
        time.sleep(0.01)


for _ in range(3):
    if os.fork() == 0:
        serve()
os.wait()
