# Sick: two forks wait for units that only their parent would have given, which waits for them.
import multiprocessing
import os

units = multiprocessing.get_context("fork").Semaphore(0)
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        units.acquire()
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
