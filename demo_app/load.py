"""Customers: threads that ask the bank for money, wait a little, and ask again, until they are told to stop."""

from __future__ import annotations

import http.client
import random
import threading

PATIENCE_S = 120.0


class Customers:
    """`hold_s` is how long a withdrawal keeps the lock, `pause_s` how long the customer then stays away: from, to."""

    def __init__(
        self, port: int, count: int, page: str, hold_s: tuple[float, float], pause_s: tuple[float, float]
    ) -> None:
        self.count = count
        self._port = port
        self._page = page
        self._hold_s = hold_s
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._shop, name=f"customer-{i}", daemon=True) for i in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ask(self, page: str, after_s: float = 0.0) -> None:
        """One request, on a thread of its own, because it may not be answered."""

        def ask() -> None:
            if not self._stopped.wait(after_s):
                get(self._port, page)

        threading.Thread(target=ask, name=page, daemon=True).start()

    def stop(self) -> None:
        """No new request is made. One that is under way ends with the server."""
        self._stopped.set()

    def _shop(self) -> None:
        while not self._stopped.is_set():
            get(self._port, f"{self._page}?seconds={random.uniform(*self._hold_s):.2f}")
            self._stopped.wait(random.uniform(*self._pause_s))


def get(port: int, path: str, timeout_s: float = PATIENCE_S) -> bool:
    """Was the request answered? Not if the worker was killed over it, or the server is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
