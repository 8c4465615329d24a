"""What semtrace sees of a lock whose holder dies while another process waits, on the processor that this runs on."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from semtrace.cpython.name_walk import walk
from semtrace.cpython.threadids import tid_offset
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.pthread import innermost_ids
from semtrace.observe.observer import Observer
from semtrace.servers.discovery import server_of

SERVER = Path(__file__).with_name("server.py")


def show(observer: Observer, wanted: str) -> None:
    """Print the lock as it is once it is in that state, or as it is after five minutes."""
    end = time.monotonic() + 300
    while True:
        found = observer.snapshot().locks
        if (found and found[0].state == wanted and found[0].name) or time.monotonic() > end:
            break
        time.sleep(0.1)
    for each in found:
        waiters = [(waiter.pid, waiter.tid) for waiter in each.waiters or ()]
        holders = [(holder.pid, holder.tid) for holder in each.holders]
        print(f"{wanted}: {each.name} {each.kind} {each.state} holders {holders} waiters {waiters} {each.reason}")


def main() -> None:
    argv = [sys.executable, str(SERVER)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout
        look(root.pid, root.stdout.readline().split())


def look(root: int, children: list[str]) -> None:
    with Memory(root) as memory:
        offset = tid_offset(memory, read_mappings(root) or [], innermost_ids(root))
        walked = walk(root, memory, budget_s=60.0, all_thread_locks=True)
    print(f"{platform.machine()}, pages of {PAGE_SIZE}, thread ids at {offset and hex(offset)}, children {children}")
    names = sorted(named.name for found in walked.semlocks.values() for named in found)
    print(f"names {names} in {walked.seconds:.1f} s, {walked.objects} objects, {walked.reason}")
    observer = Observer(server_of(root), search_budget_s=5.0, all_thread_locks=True)
    show(observer, "contended")
    private = {each.name: each.processes[0].locked for each in observer.snapshot().thread_locks}
    print(f"private: {private}")
    os.kill(int(children[0]), signal.SIGKILL)
    show(observer, "orphaned")
    print(f"problems: {observer.snapshot().problems}")
    observer.close()


if __name__ == "__main__":
    main()
