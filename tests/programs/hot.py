"""Four forked children that take and release one lock as fast as they can. Prints its pid when they have begun."""

import multiprocessing
import os
import signal
import sys

lock = multiprocessing.Lock()
ready_out, ready_in = os.pipe()
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 4):
    if os.fork() == 0:
        with lock:
            os.write(ready_in, b".")
        while os.getppid() != 1:
            for _ in range(10000):
                with lock:
                    pass
        os._exit(0)
got = 0
while got < (int(sys.argv[1]) if len(sys.argv) > 1 else 4):
    got += len(os.read(ready_out, 4096))
print(os.getpid(), flush=True)
signal.pause()
