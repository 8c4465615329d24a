"""Workers that take and release a lock as fast as they can, and see to it that nobody is inside beside them.

    python racing.py FILE WORKERS SECONDS

FILE holds three 32-bit numbers, written inside the lock only: the thread that is inside, how often somebody
came in, and how often another who lives was inside too. A worker that ends is replaced. Standard library only.
"""

import mmap
import multiprocessing as mp
import os
import random
import signal
import struct
import sys
import threading
import time

RECORD = struct.Struct("<III")


def alive(tid):
    try:
        with open(f"/proc/{tid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def use(lock, memory):
    me = threading.get_native_id()
    numbers = random.Random(me)
    while True:
        with lock:
            other, times, wrong = RECORD.unpack_from(memory, 0)
            wrong += other not in (0, me) and alive(other)
            RECORD.pack_into(memory, 0, me, times + 1, wrong)
            if numbers.random() < 0.1:
                time.sleep(numbers.random() * 0.005)
            elif numbers.random() < 0.1:
                sum(range(numbers.randrange(100000)))
            inside, times, wrong = RECORD.unpack_from(memory, 0)
            RECORD.pack_into(memory, 0, 0, times, wrong + (inside != me))
        if numbers.random() < 0.3:
            time.sleep(numbers.random() * 0.005)


def main(path, workers):
    with open(path, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 0)
    lock = mp.Lock()

    def start():
        if os.fork() == 0:
            threading.Thread(target=use, args=(lock, memory), daemon=True).start()
            use(lock, memory)

    for _ in range(workers):
        start()
    print("ready", flush=True)
    while True:
        os.wait()
        start()


if __name__ == "__main__":
    signal.alarm(int(sys.argv[3]))
    main(sys.argv[1], int(sys.argv[2]))
