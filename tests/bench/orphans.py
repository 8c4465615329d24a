"""How long it takes until an orphaned lock is found: quiet, next to threads that compute or fork, in large memory.

    python tests/bench/orphans.py [ROUNDS [KIND…]]      default 30 of each kind

From the kill of the holder until a snapshot says "orphaned", sampled ten times a second as the live view does.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support.targets import Target, observing, only, target, until  # noqa: E402

from semtrace.observe.observer import Observer  # noqa: E402

COMPUTES = "[sum(range(1000)) for _ in iter(int, 1)]"
FORKS = "exec('import time\\nwhile True:\\n    os.fork() or os._exit(time.sleep(0.01) or 0)\\n    time.sleep(0.02)')"
IGNORES = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
PAUSE_S, NEVER_S = 0.1, 30.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    found: list[float] = []
    for name in sys.argv[2:] or KINDS:
        with target() as t:
            t.fork("a", "b")
            KINDS[name](t)
            with observing(t.root) as observer:
                seconds = [delay(t, observer, f"h{number}") for number in range(rounds)]
        report(name, seconds)
        found += seconds
    report("all", found)


def quiet(t: Target) -> None:
    """Nothing runs."""


def computing(t: Target) -> None:
    """Two threads of one worker compute, as in any gthread worker under load."""
    for name in ("a2", "a3"):
        t.thread(name, by="a")
        t.start_doing(name, f"[say({name!r}, 'computing', 0), {COMPUTES}]", "computing")


def all_computing(t: Target) -> None:
    computing(t)
    t.start_doing("b", f"[say('b', 'computing', 0), {COMPUTES}]", "computing")


def forking(t: Target) -> None:
    t.do("a", IGNORES)
    t.start_doing("a", f"[say('a', 'forking', 0), {FORKS}]", "forking")


def daemon(t: Target) -> None:
    """An idle relative outside the server maps the lock."""
    t.fork_away("away", by="b")


def large(t: Target) -> None:
    """A parent of 1 GB and four children that share it."""
    t.do("p", "globals().update(data=bytearray(os.urandom(1 << 20)) * 1024)")
    t.fork("c", "d", "e", "f")


KINDS = {
    "quiet": quiet,
    "computing threads": computing,
    "all compute": all_computing,
    "forks": forking,
    "daemon": daemon,
    "large": large,
}


def delay(t: Target, observer: Observer, name: str) -> float:
    """Return how long it took to find one; the lock is free again after it."""
    until(observer, lambda s: only(s).state == "free")
    t.fork(name)
    t.do(name, "lock.acquire()")
    until(observer, lambda s: only(s).state == "held")
    began_s = time.monotonic()
    t.kill(name)
    while only(observer.snapshot()).state != "orphaned":
        if time.monotonic() - began_s > NEVER_S:
            break
        time.sleep(PAUSE_S)
    seconds = time.monotonic() - began_s
    t.fork(f"{name}r")  # one that posts by ctypes could hold the lock from then on: it ends
    t.do(f"{name}r", "ctypes.CDLL(None).sem_post(ctypes.c_void_p(lock._semlock.handle))")
    t.kill(f"{name}r")
    return seconds


def report(name: str, seconds: list[float]) -> None:
    within = [sum(each <= limit for each in seconds) / len(seconds) for limit in (2, 5)]
    middle, longest = statistics.median(seconds), max(seconds)
    print(
        f"{name:18} {len(seconds):4} orphans: median {middle:.2f} s, longest {longest:.2f} s; "
        f"within 2 s {within[0]:.0%} (to reach: 99 %), within 5 s {within[1]:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
