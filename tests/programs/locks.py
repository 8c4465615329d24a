"""A target that does what a test tells it, step by step: every process and thread of it obeys its own FIFO.

    python locks.py DIRECTORY

Each executor (`p` is the first process, the others are named when they are made) reads lines of Python from
`DIRECTORY/NAME`, evaluates each in this module, and answers `NAME ok REPR` or `NAME error REPR` into
`DIRECTORY/answers`; `NAME ready PID TID` comes first. Standard library only, CPython 3.8 to 3.15.
"""

import ctypes
import gc
import itertools  # noqa: F401  (for the lines that are evaluated)
import multiprocessing as mp
import os
import random
import re  # noqa: F401
import signal
import sys
import threading

DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else os.environ["LOCKS_DIRECTORY"]
GLOBALS = globals()


def say(*words):
    fd = os.open(os.path.join(DIRECTORY, "answers"), os.O_WRONLY)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


def serve(name):
    """Obeys until told to exit."""
    # Open for both, so that it never ends when a writer goes.
    commands = os.fdopen(os.open(os.path.join(DIRECTORY, name), os.O_RDWR), "r", closefd=True)
    threading.current_thread().executor = name
    say(name, "ready", os.getpid(), threading.get_native_id())
    for line in iter(commands.readline, ""):
        try:
            try:
                code = compile(line, "<command>", "eval")
            except SyntaxError:
                code = compile(line, "<command>", "exec")
            say(name, "ok", repr(eval(code, GLOBALS)))
        except Exception as error:  # noqa: BLE001
            say(name, "error", repr(error))


def _channel(name):
    path = os.path.join(DIRECTORY, name)
    os.mkfifo(path)
    os.chmod(path, 0o666)  # also for the test when this process has become another user


def fork(name):
    """A child by plain os.fork, as gunicorn makes its workers."""
    _channel(name)
    pid = os.fork()
    if pid == 0:
        serve(name)
        os._exit(0)
    return pid


def fork_away(name):
    """A grandchild whose parent ends at once: nobody's child in the tree."""
    _channel(name)
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os.setsid()
            serve(name)
        os._exit(0)
    os.waitpid(pid, 0)


def thread(name):
    """A further thread of this process."""
    _channel(name)
    threading.Thread(target=serve, args=(name,), daemon=True).start()


def _started(name, objects):
    GLOBALS.update(objects)
    serve(name)


def start(method, name, **objects):
    """A child by spawn or forkserver, which gets `objects` pickled."""
    _channel(name)
    os.environ["LOCKS_DIRECTORY"] = DIRECTORY
    process = mp.get_context(method).Process(target=_started, args=(name, objects))
    process.daemon = False
    process.start()
    return process.pid


def block(lock, *arguments):
    """Acquires, and says before that it is about to block."""
    say(threading.current_thread().executor, "blocking", threading.get_native_id())
    return lock.acquire(*arguments)


def hog(fd):
    """Keeps the interpreter lock until a byte comes: PyDLL does not give it up for the call."""
    say(threading.current_thread().executor, "hogging", threading.get_native_id())
    return ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)


def hog_with_cpu():
    """Keeps the interpreter lock and a processor for longer than any test waits."""
    say(threading.current_thread().executor, "hogging", threading.get_native_id())
    return sum(itertools.repeat(1, 1 << 40))


def gate(name):
    """A FIFO whose bytes end a hog."""
    _channel(name)
    return os.open(os.path.join(DIRECTORY, name), os.O_RDWR)


def compute():
    """Busy in Python's own code, in this thread, for ever."""
    say(threading.current_thread().executor, "computing", threading.get_native_id())
    while True:
        sum(range(100))


def become(user):
    """Another user, and readable for all processes of that user, which a change of user by itself prevents."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    return dumpable(1)


def dumpable(yes):
    return ctypes.CDLL(None).prctl(4, yes, 0, 0, 0)  # PR_SET_DUMPABLE


def scribble(address, size, seed):
    """Random bytes over what lies there, for ever. No garbage collection: it would look at the object."""
    gc.disable()
    say(threading.current_thread().executor, "scribbling", seed)
    numbers = random.Random(seed)
    while True:
        raw = bytes(numbers.choice((0, 0, 1, numbers.randrange(256))) for _ in range(size))
        ctypes.memmove(address, raw, size)


if __name__ == "__main__":
    signal.alarm(300)  # ends also when nobody cleans up
    serve("p")
