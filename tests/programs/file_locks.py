"""Workers that lock files in each way. /hold takes all, each other route waits for one; LOCKS is their folder.

With an argument it is a program of its own: see the functions at the end.
"""

import contextlib
import fcntl
import multiprocessing
import os
import resource
import signal
import struct
import subprocess
import sys
import time

FOLDER = os.environ.get("LOCKS", "")
WHOLE = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)


def path(name):
    return os.path.join(FOLDER, name)


if FOLDER:
    import fasteners
    import filelock

    report_lock = filelock.FileLock(path("filelock"))
    store_lock = fasteners.InterProcessLock(path("fasteners"))
    PARENT = os.getpid()


def flock():
    file = open(path("flock"), "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def posix():
    file = open(path("posix"), "w")
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
    return file


def ofd():
    file = open(path("ofd"), "w")
    fcntl.fcntl(file, 38, WHOLE)  # F_OFD_SETLKW
    return file


def by_filelock():
    """filelock 4 refuses an object that was made before a fork."""
    return (report_lock if os.getpid() == PARENT else filelock.FileLock(path("filelock"))).acquire()


def by_soft_filelock():
    return filelock.SoftFileLock(path("soft")).acquire()


def by_portalocker():
    import portalocker

    return portalocker.Lock(path("portalocker"), timeout=600).acquire()


def by_fasteners():
    store_lock.acquire()
    return store_lock


def by_readwrite():
    lock = filelock.ReadWriteLock(path("readwrite"))
    return lock, lock.acquire_write()


WAYS = {
    "flock": flock,
    "posix": posix,
    "ofd": ofd,
    "filelock": by_filelock,
    "soft": by_soft_filelock,
    "portalocker": by_portalocker,
    "fasteners": by_fasteners,
    "readwrite": by_readwrite,
}


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    kept = [take() for way, take in WAYS.items() if name in ("hold", way)]
    open(path(f"has-{name}"), "w").close()
    signal.pause()
    start_response("200 OK", [])
    return kept and [b"ok"]


def start(run):
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    return child


def opposite(way):
    """One child has the file and waits for the semaphore, the other the reverse."""
    lock = multiprocessing.Lock()
    first, second = os.pipe(), os.pipe()

    def file_first():
        kept = WAYS[way]()
        os.write(first[1], b".")
        os.read(second[0], 1)
        with lock:
            del kept

    def semaphore_first():
        with lock:
            os.write(second[1], b".")
            os.read(first[0], 1)
            WAYS[way]()

    return start(file_first), start(semaphore_first)


def inherited(_):
    """A child takes the lock, forks a grandchild that keeps the open file, and ends; another waits."""

    def take():
        kept = flock()
        start(signal.pause)
        del kept

    taker = start(take)
    os.waitpid(taker, 0)
    return (start(flock),)


def shared(_):
    """Two children have the file that their parent opened: one locks it, and it does not keep the other out."""
    file = open(path("flock"), "w")
    ready = os.pipe()

    def take():
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(ready[1], b".")
        signal.pause()

    children = start(take), start(signal.pause)
    os.read(ready[0], 1)
    return children


def twice(_):
    """A child has its lock file open a second time."""

    def take():
        kept = by_fasteners(), open(path("fasteners"))
        os.write(ready[1], b".")
        signal.pause()
        del kept

    ready = os.pipe()
    child = start(take)
    os.read(ready[0], 1)
    return (child,)


def dropped(seconds):
    """A child takes a POSIX lock. At SIGUSR1 or after so many seconds it opens and closes the file, which drops it."""

    def take():
        for number in (signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, lambda *_: open(path("fasteners")).close())
        signal.alarm(int(seconds or 0))
        kept = by_fasteners()
        os.write(ready[1], b".")
        while kept:
            signal.pause()

    ready = os.pipe()
    child = start(take)
    os.read(ready[0], 1)
    return (child,)


def left_over(_):
    """A lock file names a process that has ended, as older versions of filelock leave it, and a child polls."""
    gone = start(lambda: None)
    os.waitpid(gone, 0)
    with open(path("soft"), "w") as file:
        file.write(f"{gone}\n{os.uname().nodename}\n")

    class Strict(filelock.SoftFileLock):
        def _try_break_stale_lock(self):
            """Leave it."""

    return (start(lambda: Strict(path("soft")).acquire()),)


def contained(way):
    """A child waits, and semtrace is asked from here about this process."""
    child = start(WAYS[way])
    while not open(f"/proc/{child}/wchan").read().startswith("lock"):
        time.sleep(0.01)
    subprocess.run([sys.executable, "-m", "semtrace", "dump", "--json", str(os.getpid())], check=True)
    os.kill(child, signal.SIGKILL)
    sys.exit()


def many(way):
    """Several files are open, and one lock."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 12, 1 << 12))
    files = [open(path(f"plain{number}"), "w") for number in range(int(way))]
    kept = flock()
    children = [start(signal.pause) for _ in range(4)]
    globals().update(kept=(files, kept))
    return children


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(*globals()[sys.argv[1]](sys.argv[2]), flush=True)
        signal.pause()
