# Stopped: the holder of a lock is stopped, as by a debugger or a cgroup freezer; another waits.
import multiprocessing
import os
import signal
import time

mp = multiprocessing.get_context("fork")
own = mp.Lock()


def hold():
    with own:
        os.kill(os.getpid(), signal.SIGSTOP)


def want():
    with own:  # waits
        pass


if __name__ == "__main__":
    mp.Process(target=hold).start()
    while own.acquire(False):
        own.release()
    mp.Process(target=want).start()
    time.sleep(600)
