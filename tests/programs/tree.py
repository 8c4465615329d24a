"""A tree of Python processes: `tree.py METHOD` starts two idle children, one grandchild by fork and a `sleep`.

Prints the pids of the children, of the grandchild and of the sleep, then waits for its standard input to end.
"""

import multiprocessing
import os
import subprocess
import sys
import time


def idle(sender):
    grandchild = os.fork()
    if grandchild == 0:
        time.sleep(3600)
    sender.send((os.getpid(), grandchild))
    time.sleep(3600)


def main():
    context = multiprocessing.get_context(sys.argv[1])
    receiver, sender = context.Pipe(False)
    pids = []
    for _ in range(2):
        context.Process(target=idle, args=(sender,), daemon=True).start()
        pids.extend(receiver.recv())
    pids.append(subprocess.Popen(["sleep", "3600"]).pid)
    print(*pids, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
