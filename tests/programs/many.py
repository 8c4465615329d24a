"""N forked children share M locks and sleep; the first holds the first lock. Prints its pid when all is set."""

import multiprocessing
import os
import signal
import sys

children, count = int(sys.argv[1]), int(sys.argv[2])
locks = [multiprocessing.Lock() for _ in range(count)]
ready_out, ready_in = os.pipe()
for number in range(children):
    if os.fork() == 0:
        if number == 0:
            locks[0].acquire()
        os.write(ready_in, b".")
        signal.pause()
got = 0
while got < children:
    got += len(os.read(ready_out, 4096))
print(os.getpid(), flush=True)
signal.pause()
