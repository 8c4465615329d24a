"""One takes the lock and another releases it: threads of two processes that hand it over through a pipe.

    python handing.py CONFIG

Standard library only, Python 3.8 and newer.
"""

import os
import random
import signal
import struct
import sys
import time

from journal import Full, Journal
from workers import context_of, keep_running, read_config, register_locks

DEFAULTS = {
    "journal": "",
    "kinds": ["Lock"],
    "units": 2,
    "pairs": 2,
    "longest_s": 0.08,
    "seed": 0,
    "start": "os.fork",
    "library": "multiprocessing",
    "alarm_s": 300,
}
HANDED = struct.Struct("II")


def main(config):
    journal = Journal(config["journal"])
    locks = register_locks(journal, context_of(config), config)
    keep_running(journal, lambda number: start(journal, locks, config, number), config["pairs"])


def start(journal, locks, config, number):
    pid = os.fork()
    if pid == 0:
        signal.alarm(config["alarm_s"])
        mine = {index: locks[index] for index in range(number % len(locks), len(locks), config["pairs"])}
        read, write = os.pipe()
        numbers = random.Random(f"{config['seed']} {os.getpid()}")
        releaser = os.fork() == 0
        os.close(write if releaser else read)
        try:
            if releaser:
                release_all(journal, mine, read, numbers, config)
            else:
                take_all(journal, mine, write, numbers, config)
        except Full:
            time.sleep(600)
        os._exit(0)
    return pid


def take_all(journal, locks, write, numbers, config):
    while True:
        index = numbers.choice(sorted(locks))
        journal.begin_acquire(index)
        locks[index].acquire()
        journal.end_acquire(index)
        time.sleep(numbers.random() * config["longest_s"])
        os.write(write, HANDED.pack(journal.me(), index))


def release_all(journal, locks, read, numbers, config):
    while True:
        handed = os.read(read, HANDED.size)
        if not handed:
            return
        time.sleep(numbers.random() * config["longest_s"])
        of, index = HANDED.unpack(handed)
        journal.begin_release(index, of)
        locks[index].release()
        journal.end_release(index, of)


if __name__ == "__main__":
    signal.alarm(300)
    main(read_config(DEFAULTS, sys.argv[1]))
