# Sick on SIGUSR2: the handler notifies the Condition for which the same process waits, in a worker of os.fork.
import multiprocessing
import os
import signal

news = multiprocessing.get_context("fork").Condition()


def on_usr2(*_):
    with news:
        news.notify_all()


if os.fork() == 0:
    signal.signal(signal.SIGUSR2, on_usr2)
    with news:
        print("ready", flush=True)
        news.wait()
    os._exit(0)
os.wait()
