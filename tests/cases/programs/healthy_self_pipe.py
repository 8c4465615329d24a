# Healthy: the main thread reads a pipe into which its SIGTERM handler writes.
import os
import signal

readable, writable = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(writable, b"x"))
print("ready", flush=True)
os.read(readable, 1)
