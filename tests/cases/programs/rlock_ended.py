# Sick: the thread that took an RLock has ended; main only joins one that waits for it.
import threading
import time

state_lock = threading.RLock()


def update():
    with state_lock:  # waits
        pass


if __name__ == "__main__":
    taker = threading.Thread(target=state_lock.acquire)
    user = threading.Thread(target=lambda: (time.sleep(0.3), update()))
    user.start()  # before the taker ends: it would be given the same id
    taker.start()
    taker.join()
    user.join()
