# Healthy: SIGALRM ends the wait for a lock that the thread has itself.
import multiprocessing
import signal
import sys
import threading


class TimeoutAlarm(Exception):
    pass


def on_alarm(*_):
    raise TimeoutAlarm


locks = {"private": threading.Lock, "shared": multiprocessing.get_context("fork").Lock}
lock = locks[sys.argv[1]]()
signal.signal(signal.SIGALRM, on_alarm)
lock.acquire()
signal.alarm(500)
print("ready", flush=True)
try:
    lock.acquire()
except TimeoutAlarm:
    lock.release()
