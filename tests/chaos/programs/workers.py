"""Workers that take and release shared locks at random and write it down in a journal.

    python workers.py CONFIG        a JSON object, see DEFAULTS

A worker that ends is replaced. Standard library only (but for `library`), Python 3.8 and newer.
"""

import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from journal import READY, Full, Journal

DEFAULTS = {
    "journal": "",
    "kinds": ["Lock"],
    "units": 2,  # of a semaphore
    "workers": 3,
    "threads": 1,  # of each worker that use the locks
    "computing": 0,  # further threads of each worker that only compute
    "start": "os.fork",  # or fork, spawn, forkserver
    "library": "multiprocessing",
    "noise": False,  # a Queue, a Condition, an Event and a Barrier in use around the locks
    "traced": False,
    "fork_every_s": 0.0,
    "exec_every_s": 0.0,
    "exec_while_held": False,
    "exit_while_held": False,
    "relatives": 0,  # daemonised, idle
    "hidden": False,  # no name leads to the locks
    "nested": 1,  # how many locks a thread holds at once at most, always taken in the same order
    "longest_s": 0.15,
    "computes_inside": False,
    "seed": 0,
    "alarm_s": 300,
}


def main(config):
    if config["traced"]:
        import semtrace

        semtrace.install()
    journal = Journal(config["journal"])
    context = context_of(config)
    locks = register_locks(journal, context, config)
    if config["hidden"]:
        locks = Hidden(locks)
    noise = make_noise(context) if config["noise"] else None
    for _ in range(config["relatives"]):
        daemonise()
    start = starter(context, journal, locks, noise, config)
    keep_running(journal, start, config["workers"])


def register_locks(journal, context, config):
    """Make the locks that the configuration names, and register each."""
    locks = []
    for index, kind in enumerate(config["kinds"]):
        locks.append(make_lock(context, kind, config["units"]))
        journal.register(index, locks[-1], kind, units_of(kind, config))
    return locks


def keep_running(journal, start, number):
    """Start so many processes, and another one for each that ends. `start` takes a number and returns a PID."""
    living = {start(each): each for each in range(number)}
    journal.words[READY] = 1
    print("ready", flush=True)
    while True:
        pid, _ = os.wait()
        if pid in living:
            ended = living.pop(pid)
            living[start(ended)] = ended


class Hidden:
    """A sequence that only an iterator's own memory leads to: no name does."""

    def __init__(self, values):
        self._iterator = iter(values)
        self._length = len(values)

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        return self._iterator.__reduce__()[1][0][index]


def context_of(config):
    if config["library"] == "loky":
        return importlib.import_module("joblib.externals.loky.backend").get_context("loky")
    start = "fork" if config["start"] == "os.fork" else config["start"]
    return importlib.import_module(config["library"]).get_context(start)


def make_lock(context, kind, units):
    return getattr(context, kind)(*((units,) if "Semaphore" in kind else ()))


def units_of(kind, config):
    return config["units"] if "Semaphore" in kind else 1


def make_noise(context):
    return context.Queue(3), context.Condition(), context.Event(), context.Barrier(2)


def starter(context, journal, locks, noise, config):
    """Return a function that starts the worker of a number and returns its pid."""
    started = []

    def by_fork(number):
        pid = os.fork()
        if pid == 0:
            work(journal, locks, noise, config, number)
            os._exit(0)
        return pid

    def by_process(number):
        process = context.Process(target=work, args=(journal, locks, noise, config, number))
        process.start()
        started.append(process)
        return process.pid

    return by_fork if config["start"] == "os.fork" else by_process


def daemonise():
    """Leave an idle grandchild behind, which has the locks mapped and never uses them."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(600)
    os._exit(0)


def work(journal, locks, noise, config, number):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(config["alarm_s"])
    for _ in range(config["computing"]):
        threading.Thread(target=compute, daemon=True).start()
    if config["fork_every_s"]:
        threading.Thread(target=keep_forking, args=(config["fork_every_s"],), daemon=True).start()
    for thread in range(1, config["threads"]):
        threading.Thread(target=use_all, args=(journal, locks, noise, config, number, thread), daemon=True).start()
    use_all(journal, locks, noise, config, number, 0)


def compute():
    while True:
        sum(range(5000))


def use_all(journal, locks, noise, config, number, thread):
    numbers = random.Random(f"{config['seed']} {os.getpid()} {thread}")
    execed_s = time.monotonic()
    try:
        while True:
            use_nested(journal, choose(locks, numbers, config), locks, numbers, config)
            if noise is not None and numbers.random() < 0.5:
                make_some(noise, numbers)
            now_s = time.monotonic()
            if config["exec_every_s"] and now_s - execed_s > config["exec_every_s"]:
                execed_s = now_s
                subprocess.Popen(["sleep", "0.2"])
            if numbers.random() < 0.7:
                pause(numbers, 0.02, config)
    except Full:
        time.sleep(600)


def choose(locks, numbers, config):
    """Return the indexes of some locks, upwards: nobody waits for a lower one than they hold."""
    number = numbers.randrange(1, config["nested"] + 1)
    return sorted(numbers.sample(range(len(locks)), min(number, len(locks))))


def use_nested(journal, indexes, locks, numbers, config):
    """Take each of these while the one before is held."""
    index, further = indexes[0], indexes[1:]
    inner = (lambda: use_nested(journal, further, locks, numbers, config)) if further else None
    use(journal, index, locks[index], config["kinds"][index], numbers, config, inner)


def use(journal, index, lock, kind, numbers, config, inner=None):
    """Takes the lock once in one of the ways that there are, and calls `inner` while it is held."""
    style = numbers.random()
    if style < 0.4:
        use_with(journal, index, lock, numbers, config, inner)
    elif style < 0.6:
        use_timed(journal, index, lock, numbers, config, inner)
    elif kind == "RLock":
        use_deep(journal, index, lock, numbers, config, numbers.randrange(2, 6), inner)
    else:
        use_plainly(journal, index, lock, numbers, config, inner)


def use_with(journal, index, lock, numbers, config, inner=None):
    journal.begin_acquire(index)
    with lock:
        journal.end_acquire(index)
        hold(journal, numbers, config, inner)
        journal.begin_release(index)
    journal.end_release(index)


def use_plainly(journal, index, lock, numbers, config, inner=None):
    journal.begin_acquire(index)
    lock.acquire()
    journal.end_acquire(index)
    hold(journal, numbers, config, inner)
    journal.begin_release(index)
    lock.release()
    journal.end_release(index)


def use_timed(journal, index, lock, numbers, config, inner=None):
    journal.begin_acquire(index)
    got = lock.acquire(True, 0.05) if numbers.random() < 0.5 else lock.acquire(False)
    journal.end_acquire(index, got)
    if not got:
        return
    hold(journal, numbers, config, inner)
    journal.begin_release(index)
    lock.release()
    journal.end_release(index)


def use_deep(journal, index, lock, numbers, config, depth, inner=None):
    for _ in range(depth):
        journal.begin_acquire(index)
        lock.acquire()
        journal.end_acquire(index)
        pause(numbers, config["longest_s"] / depth, config)
    if inner is not None:
        inner()
    for _ in range(depth):
        journal.begin_release(index)
        lock.release()
        journal.end_release(index)
        pause(numbers, config["longest_s"] / depth, config)


def hold(journal, numbers, config, inner=None):
    if inner is not None:
        inner()
    if config["exec_while_held"] and numbers.random() < 0.02:
        journal.mark_gone()
        os.execv("/bin/sleep", ["sleep", "1"])
    if config["exit_while_held"] and numbers.random() < 0.02:
        os._exit(1)
    chance = numbers.random()
    if chance < 0.15:
        return
    pause(numbers, config["longest_s"] * (4 if chance > 0.95 else 1), config)


def pause(numbers, longest_s, config):
    if not config["computes_inside"] or numbers.random() < 0.5:
        time.sleep(numbers.random() * longest_s)
        return
    end_s = time.monotonic() + numbers.random() * longest_s
    while time.monotonic() < end_s:
        sum(range(2000))


def keep_forking(every_s):
    """Children that do nothing for a moment, one after the other, also while the other threads wait for a lock."""
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(every_s * 0.7)
            os._exit(0)
        os.waitpid(pid, 0)
        time.sleep(every_s * 0.3)


def make_some(noise, numbers):
    queue, condition, event, barrier = noise
    act = numbers.randrange(4)
    if act == 0:
        with contextlib.suppress(Exception):  # full or empty
            queue.put_nowait(1) if numbers.random() < 0.5 else queue.get(timeout=0.01)
    elif act == 1 and condition.acquire(True, 0.02):
        try:
            condition.notify() if numbers.random() < 0.5 else condition.wait(0.005)
        finally:
            condition.release()
    elif act == 2:
        event.set() if numbers.random() < 0.5 else event.clear()
    elif act == 3:
        try:
            barrier.wait(0.003)
        except threading.BrokenBarrierError:
            barrier.reset()


def read_config(defaults, text):
    given = json.loads(text)
    assert given.keys() <= defaults.keys(), given.keys() - defaults.keys()
    return {**defaults, **given}


if __name__ == "__main__":
    signal.alarm(300)
    main(read_config(DEFAULTS, sys.argv[1]))
