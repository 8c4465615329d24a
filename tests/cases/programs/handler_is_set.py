# Sick on a storm of SIGHUP: Event.set in a handler meets Event.is_set.
import multiprocessing
import signal

reload = multiprocessing.get_context("fork").Event()


def on_hup(*_):
    reload.set()


signal.signal(signal.SIGHUP, on_hup)
while True:
    if reload.is_set():
        reload.clear()
