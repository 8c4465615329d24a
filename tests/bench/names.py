"""What a first walk costs: `python tests/bench/names.py [MEGABYTES]`.

Prints a line for each target: resident memory, objects looked at, reads, milliseconds of the first walk and of the best
of five.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]

from support import PROGRAMS, start, start_gunicorn, wait_until  # noqa: E402

from semtrace.cpython.name_walk import walk  # noqa: E402
from semtrace.linux.memory import Memory  # noqa: E402
from semtrace.linux.process import read_stat  # noqa: E402

LARGE_MB = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


@contextmanager
def planted(*args: str) -> Iterator[int]:
    command = [sys.executable, str(PROGRAMS / "planted.py"), *args]
    with start(*command, env={"PYTHONUTF8": "1"}, stdin_open=True) as (popen, log):
        wait_until(lambda: "READY" in log.read_text("utf-8"), 120, "the program")
        yield popen.pid


def measure(title: str, pid: int) -> None:
    walks = []
    for _ in range(5):
        with Memory(pid) as memory:
            walks.append(walk(pid, memory))
    first, best = walks[0], min(each.seconds for each in walks)
    stat = read_stat(pid)
    size = stat.rss >> 20 if stat else 0
    print(
        f"{title:38} {size:5} MB  {first.objects:7} objects  {first.reads:5} reads  {len(first.semlocks):4} locks"
        f"  first {first.seconds * 1000:4.0f} ms  best {best * 1000:4.0f} ms  {first.reason or 'complete'}"
    )


def main() -> None:
    with planted() as pid:
        measure("planted", pid)
    with planted("bytes", str(LARGE_MB)) as pid:
        measure("planted, large strings", pid)
    with planted("objects", str(LARGE_MB)) as pid:
        measure("planted, very many objects", pid)
    for option in ("--preload", "--no-sendfile"):  # the latter changes nothing
        with start_gunicorn("names_flask:app", "--workers", "1", option) as server:
            (worker,) = server.wait_workers(1)
            with Memory(worker) as memory:
                wait_until(lambda memory=memory, pid=worker: walk(pid, memory).semlocks, 20, "the application")
            measure(f"Flask under gunicorn, worker, {option[2:]}", worker)
            measure("  its master", server.pid)


if __name__ == "__main__":
    main()
