# Slow: the same behind an ExitStack, by acquire() in a method, with an RLock of an object.
import contextlib
import threading
import time


class Account:
    def __init__(self):
        self.guard = threading.RLock()

    def hold(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.guard)
            inside.set()
            time.sleep(600)  # holds

    def ask(self):
        self.guard.acquire()
        self.guard.release()


account = Account()
inside = threading.Event()
threading.Thread(target=account.hold, daemon=True).start()
inside.wait()
threading.Thread(target=account.ask, daemon=True).start()
time.sleep(600)
