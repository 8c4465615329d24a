"""A block that a killed program left. Run with a /dev/shm of its own; it counts when it is a minute old."""

import time

with open("/dev/shm/psm_batch1", "wb") as block:
    block.write(bytes(100_000))
time.sleep(200)
