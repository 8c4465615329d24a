# Healthy: the taker of an flock closed its file; a program that is no relative any more has it.
import fcntl
import os
import subprocess
import sys

taken = open(sys.argv[1], "w")
fcntl.flock(taken, fcntl.LOCK_EX)
KEEP = f"while kill -0 {os.getpid()}; do sleep 0.2; done >/dev/null 2>&1 &"
subprocess.run(["sh", "-c", KEEP], pass_fds=[taken.fileno()])
taken.close()
if os.fork() == 0:
    with open(sys.argv[1], "w") as file:
        print("ready", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    os._exit(0)
os.wait()
