"""A thread took a lock by a bare acquire() and works; another thread waits for it."""

import threading
import time

lock = threading.Lock()


def work() -> None:
    lock.acquire()
    time.sleep(60)
    lock.release()


if __name__ == "__main__":
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    with lock:
        pass
