"""A module with two private locks of its own; it says so when it has them."""

import asyncio
import sys
import threading

guard = threading.Lock()
turn = asyncio.Lock() if sys.version_info >= (3, 10) else None
guard.acquire()
print("ready", flush=True)
threading.Event().wait()
