"""A bank with one account, served by several gunicorn workers: a WSGI application that needs a lock.

    gunicorn -w 4 --preload demo_app.app:app         then, in a second terminal:  semtrace

A withdrawal reads the balance, thinks, and writes the new balance. If two workers do that at the same time, both read
100, both write 90, and the bank has paid twice but booked once. So only one of them may be inside at a time: that is
what `lock` is for. Whether it does that depends on where the lock's few bytes lie.

**`threading.Lock`** lies in the memory of one process. (On Linux, up to Python 3.13, it is a POSIX semaphore made by
`sem_init`: it has no name, just 32 bytes on the heap.) When gunicorn forks its workers, each of them gets a *copy* of
that memory, and so a copy of the lock. Four workers, four locks, and each worker takes its own. Such a lock keeps
threads apart, never processes.

**`multiprocessing.Lock`** lies in a file. It is a POSIX semaphore too, but made by `sem_open`: the C library creates
the file `/dev/shm/sem.mp-XXXXXXXX` and maps it into memory *shared*. A fork copies the mapping, not what is mapped: the
workers look through four windows at the same 32 bytes. When one of them sets the number there to 0, which is "taken",
all see it, and the kernel can put the others to sleep on that address and wake one when the number is raised again.
(Such an address is called a futex.)

**Why is `/dev/shm` empty then?** Python removes the file's name as soon as the file is mapped, so that nothing is left
behind even if the server is killed. The file lives on, nameless, as long as someone maps it. `ls /dev/shm` and `lsipc`
cannot show it. `/proc/PID/maps` can, and that is where semtrace begins. (Programs that *spawn* their processes, as
opposed to forking them, keep the name until they end: the children need it to find the file.)

**Why `--preload`?** With it, gunicorn imports this module once, in the master, and forks afterwards: one semaphore,
seen by all. Without it, every worker imports this module for itself, calls `multiprocessing.Lock()` for itself, and has
a semaphore of its own. The source is the same to the letter, and the lock excludes nobody.

**What does the kernel do with a semaphore whose holder was killed?** Nothing. A semaphore is a number, it does not know
who lowered it, and the one who would have raised it again is gone. `/report` shows how that comes about.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from demo_app.bank import AMOUNT, Bank

LONGEST_THOUGHT_S = 60.0

SCENARIO = os.environ.get("DEMO_SCENARIO", "")

# This one line decides. It runs in the master with --preload, and in every worker without.
lock: Any = {"threading": threading.Lock, "inherited": multiprocessing.RLock}.get(SCENARIO, multiprocessing.Lock)()

bank = Bank.from_environment()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    page = PAGES.get(environ["PATH_INFO"])
    if page is None:
        status, text = "404 Not Found", f"There is only {', '.join(PAGES)}.\n"
    else:
        status, text = "200 OK", page(parse_qs(environ["QUERY_STRING"]))
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


def show(query: dict[str, list[str]]) -> str:
    """What the bank knows. It needs no lock, and answers as long as one worker does not hang."""
    return f"{bank.look()}\n"


def withdraw(query: dict[str, list[str]]) -> str:
    """Read, think, write: right for one worker at a time."""
    with alone():
        balance = bank.balance()
        time.sleep(min(float(query.get("seconds", ["0.5"])[0]), LONGEST_THOUGHT_S))
        bank.set_balance(balance - AMOUNT)
        bank.note("paid")
    return f"Worker {os.getpid()} paid {AMOUNT}.\n"


def report(query: dict[str, list[str]]) -> str:
    """Hold the lock for longer than gunicorn's patience, in one call that does not return to Python.

    In life this is a database driver, a DNS look-up, an image library; here it is a hash with far too many rounds.
    After `--timeout` seconds gunicorn sends SIGABRT. Its handler is written in Python and would raise SystemExit, and
    `with` would release the lock; but no Python runs while the call lasts. A second later gunicorn sends SIGKILL, and
    nobody is left to release. (`lock.acquire()` without `try … finally` needs no such call: SIGABRT is enough.)
    """
    with alone():
        bank.note("reports")
        hashlib.pbkdf2_hmac("sha256", b"year", b"end", 2_000_000_000)
    return "The report is ready.\n"


@contextmanager
def alone() -> Iterator[None]:
    """Take the lock, and tell the bank's journal when this worker wants to go in, goes in, and goes out."""
    bank.note("wants")
    with lock:
        bank.note("enters")
        try:
            yield
        finally:
            bank.note("leaves")


PAGES: dict[str, Callable[[dict[str, list[str]]], str]] = {"/": show, "/withdraw": withdraw, "/report": report}

if SCENARIO in ("deadlock", "order", "reentry", "overrelease", "inherited"):
    from demo_app import mistakes

    PAGES.update(mistakes.PAGES)
    if SCENARIO == "inherited":
        mistakes.keep_house()
