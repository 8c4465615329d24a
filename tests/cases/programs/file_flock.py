# Slow: one process has an flock and sleeps, the others wait.
import fcntl
import os
import sys
import time

path = sys.argv[1]


def take():
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits
        print("ready", flush=True)
        time.sleep(600)


for _ in range(3):
    if os.fork() == 0:
        take()
os.wait()
