"""Threads that sleep in known places. Prints what sys._current_frames() says of them, and sleeps itself.

Runs on Python 3.8 and later.
"""

import json
import sys
import threading
import time

lock = threading.Lock()
lock.acquire()


def deep(depth):
    if depth:
        return (
            lambda: deep(
                depth - 1,
            )
        )()
    return [
        depth,
        lock.acquire(),
    ]


def inner():
    for number in range(3):
        yield number
        with lock:
            pass


def outer():
    yield from inner()


def mapped():
    return list(map(deep, [2]))


def collected():
    return [each + 1 for each in outer()]


def stack(frame):
    found = []
    while frame:
        code = frame.f_code
        found.append([code.co_name, getattr(code, "co_qualname", None), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return found


def innermost_waits(frames):
    return all(frame.f_code.co_name in ("deep", "inner") for frame in frames)


def main():
    threads = [threading.Thread(target=run, args=args, daemon=True) for run, args in PLACES]
    for thread in threads:
        thread.start()
    while not innermost_waits([sys._current_frames()[thread.ident] for thread in threads]):
        time.sleep(0.01)
    time.sleep(0.1)  # the last instruction before the call
    frames = sys._current_frames()
    print(json.dumps({thread.ident: stack(frames[thread.ident]) for thread in threads}), flush=True)
    lock.acquire()  # main sleeps here


PLACES = [(deep, (6,)), (collected, ()), (mapped, ())]
main()
