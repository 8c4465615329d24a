# Sick: a file's buffer is locked by a thread at the fork; the child writes to the same file for ever.
import os
import threading
import time

read, write = os.pipe()
out = os.fdopen(write, "wb")


def fill():
    out.write(b"x" * 300000)  # blocks in write(2), with the buffer's lock


threading.Thread(target=fill, daemon=True).start()


def blocked():
    others = [tid for tid in os.listdir("/proc/self/task") if int(tid) != os.getpid()]
    return any(open(f"/proc/self/task/{tid}/wchan").read().endswith("pipe_write") for tid in others)


while not blocked():
    time.sleep(0.01)
if os.fork() == 0:
    out.write(b"from the child")  # waits
    os._exit(0)
time.sleep(600)
