"""A server that makes a lock for each job and drops it after: the next one lies at the same address.

    python jobs.py CONFIG

A job is a lock, perhaps a forked helper that uses it too, and a few holds. Standard library only, Python 3.8 and newer.
"""

import os
import random
import signal
import sys
import time

from journal import Full, Journal
from workers import context_of, keep_running, make_lock, read_config, units_of, use

DEFAULTS = {
    "journal": "",
    "kinds": ["Lock", "Lock"],
    "units": 2,
    "servers": 2,
    "uses": 4,
    "helpers": True,
    "longest_s": 0.06,
    "computes_inside": False,
    "exec_while_held": False,
    "exit_while_held": False,
    "seed": 0,
    "start": "os.fork",
    "library": "multiprocessing",
    "alarm_s": 300,
}


def main(config):
    journal = Journal(config["journal"])
    keep_running(journal, lambda number: start(journal, config, number), config["servers"])


def start(journal, config, number):
    pid = os.fork()
    if pid == 0:
        signal.alarm(config["alarm_s"])
        numbers = random.Random(f"{config['seed']} {os.getpid()}")
        indexes = [i for i in range(len(config["kinds"])) if i % config["servers"] == number]
        journal.clear_entries(indexes)
        try:
            serve(journal, indexes, numbers, config)
        except Full:
            time.sleep(600)
        os._exit(0)
    return pid


def serve(journal, indexes, numbers, config):
    context, locks = context_of(config), {}
    while True:
        index = numbers.choice(indexes)
        if index in locks:
            journal.drop(index)
            del locks[index]
            if numbers.random() < 0.3:
                time.sleep(numbers.random() * 0.2)
        kind = config["kinds"][index]
        lock = make_lock(context, kind, config["units"])
        journal.register(index, lock, kind, units_of(kind, config))
        locks[index] = lock
        del lock
        helper = help_with(journal, index, locks[index], config) if config["helpers"] and numbers.random() < 0.2 else 0
        for _ in range(numbers.randrange(config["uses"])):
            chosen = numbers.choice(sorted(locks))
            use(journal, chosen, locks[chosen], config["kinds"][chosen], numbers, config)
            time.sleep(numbers.random() * 0.02)
        if helper:
            os.waitpid(helper, 0)


def help_with(journal, index, lock, config):
    pid = os.fork()
    if pid == 0:
        numbers = random.Random(os.getpid())
        for _ in range(2):
            use(journal, index, lock, config["kinds"][index], numbers, config)
        os._exit(0)
    return pid


if __name__ == "__main__":
    signal.alarm(300)
    main(read_config(DEFAULTS, sys.argv[1]))
