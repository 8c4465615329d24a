# Sick on a storm of SIGHUP: Queue.put in a handler meets Queue.put.
import multiprocessing
import signal

actions = multiprocessing.get_context("fork").Queue()


def on_hup(*_):
    actions.put("reload")


signal.signal(signal.SIGHUP, on_hup)
while True:
    actions.put("tick")
    actions.get()
