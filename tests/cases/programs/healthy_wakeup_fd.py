# Healthy: a thread reads from the socket pair into which each signal writes, the main thread joins it.
import signal
import socket
import threading

readable, writable = socket.socketpair()
writable.setblocking(False)
signal.set_wakeup_fd(writable.fileno())
signal.signal(signal.SIGUSR1, lambda *_: None)
reader = threading.Thread(target=readable.recv, args=(1,))
reader.start()
print("ready", flush=True)
reader.join()
