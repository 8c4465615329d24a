"""Parents and children that share locks across plain forks, made while the lock is held.

    python relatives.py CONFIG

Modes: `shared` (one of both releases what the parent took, then both take it by turns), `units` (each holds units of
a semaphore, and keeps the count that it inherited), `inherited` (an idle child keeps an inherited count while others
use the lock). Each pair has several locks of its own and does so with all of them. Standard library only, Python 3.8
and newer.
"""

import os
import random
import signal
import sys
import time

from journal import Full, Journal
from workers import context_of, keep_running, read_config, register_locks, use_plainly

DEFAULTS = {
    "journal": "",
    "mode": "shared",
    "kinds": ["Lock"],
    "units": 2,
    "pairs": 2,
    "rounds": 12,
    "children_at_rest": 1,
    "one_processor": False,
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
    locks = register_locks(journal, context_of(config), config)
    keep_running(journal, lambda number: start(journal, locks, config, number), config["pairs"])


def start(journal, locks, config, number):
    pid = os.fork()
    if pid == 0:
        signal.alarm(config["alarm_s"])
        numbers = random.Random(f"{config['seed']} {os.getpid()}")
        try:
            while True:
                mine = {index: locks[index] for index in range(number % len(locks), len(locks), config["pairs"])}
                MODES[config["mode"]](journal, mine, numbers, config)
        except Full:
            time.sleep(600)
        os._exit(0)
    return pid


def stay_on_one(config, index):
    if config["one_processor"]:
        os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[index % len(os.sched_getaffinity(0))]])


def take(journal, locks):
    for index, lock in locks.items():
        journal.begin_acquire(index)
        lock.acquire()
        journal.end_acquire(index)


def give(journal, locks, of=None):
    for index, lock in locks.items():
        journal.begin_release(index, of)
        lock.release()
        journal.end_release(index, of)


def pause(numbers, config):
    end_s = time.monotonic() + numbers.random() * config["longest_s"]
    if not config["computes_inside"]:
        time.sleep(max(end_s - time.monotonic(), 0))
    while time.monotonic() < end_s:
        sum(range(2000))


def one_or_all(locks, numbers):
    if numbers.random() < 0.3:
        return locks
    index = numbers.choice(sorted(locks))
    return {index: locks[index]}


def by_turns(journal, locks, numbers, config):
    for _ in range(config["rounds"]):
        some = one_or_all(locks, numbers)
        take(journal, some)
        pause(numbers, config)
        give(journal, some)
        if numbers.random() < 0.5:
            time.sleep(numbers.random() * 0.01)


def shared(journal, locks, numbers, config):
    """The parent takes it and forks; parent or child releases; both take it again and again; the child ends.

    Not for an RLock: it lets in whoever inherited its count without taking the semaphore.
    """
    stay_on_one(config, min(locks))
    take(journal, locks)
    me, child_releases = journal.me(), numbers.random() < 0.5
    pid = os.fork()
    if pid == 0:
        numbers = random.Random(os.getpid())
        if child_releases:
            pause(numbers, config)
            give(journal, locks, of=me)
        by_turns(journal, locks, numbers, config)
        os._exit(0)
    if not child_releases:
        pause(numbers, config)
        give(journal, locks)
    by_turns(journal, locks, numbers, config)
    os.waitpid(pid, 0)
    os._exit(0)  # its counts are left over from the other's releases: begin again


def units(journal, locks, numbers, config):
    """Parent and child have a unit each; later both counts are higher than what they have."""
    take(journal, locks)
    pid = os.fork()
    if pid == 0:
        numbers = random.Random(os.getpid())
        time.sleep(numbers.random() * 0.05)
        by_turns(journal, locks, numbers, config)
        time.sleep(numbers.random() * 0.5)
        os._exit(0)
    for _ in range(4):
        pause(numbers, config)
    give(journal, locks)
    by_turns(journal, locks, numbers, config)
    os.waitpid(pid, 0)


def inherited(journal, locks, numbers, config):
    """Children that never use the lock keep the count of their birth."""
    take(journal, locks)
    children = []
    for _ in range(config["children_at_rest"]):
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        children.append(pid)
    pause(numbers, config)
    give(journal, locks)
    for _ in range(4):
        index = numbers.choice(sorted(locks))
        use_plainly(journal, index, locks[index], numbers, config)
        time.sleep(numbers.random() * 0.1)
    for _ in range(3):
        by_turns(journal, locks, numbers, config)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


MODES = {"shared": shared, "units": units, "inherited": inherited}

if __name__ == "__main__":
    signal.alarm(300)
    main(read_config(DEFAULTS, sys.argv[1]))
