# Full: SharedMemory that nobody unlinked fills a small /dev/shm. Run with a mount of its own there.
import subprocess
import sys
import time

subprocess.run(
    [
        sys.executable,
        "-c",
        """
import os
from multiprocessing import resource_tracker, shared_memory
for number in range(9):
    block = shared_memory.SharedMemory(create=True, size=100000, name=f"psm_batch{number}")
    block.buf[:] = bytes(100000)
    resource_tracker.unregister(block._name, "shared_memory")
os._exit(0)
""",
    ]
)
print("ready", flush=True)
time.sleep(600)
