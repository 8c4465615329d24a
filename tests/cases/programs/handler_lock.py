# Sick: a handler takes the lock that the interrupted function has.
import os
import signal
import threading

state_lock = threading.Lock()


def on_usr1(*_):
    with state_lock:  # waits
        pass


signal.signal(signal.SIGUSR1, on_usr1)


def update():
    with state_lock:
        os.kill(os.getpid(), signal.SIGUSR1)
        [0 for _ in range(1000)]


update()
