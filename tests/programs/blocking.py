"""Threads that block for ever, each in one system call, named by the arguments: `blocking.py CALL…`.

It prints a line `CALL TID` for each, and at the end what the calls are about, as JSON. Python 3.8 and newer.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LONG = 10**6
about = {}


def pipe(name):
    """A pipe of which both ends stay open."""
    ends = os.pipe()
    about[name] = ends
    return ends


def pair(name):
    ends = socket.socketpair()
    about[name] = [each.fileno() for each in ends]
    kept.extend(ends)
    return ends


kept = []


def sleeper():
    child = subprocess.Popen(["sleep", str(LONG)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    kept.append(child)
    return child.pid


def read(name):
    os.read(pipe(name)[0], 1)


def readv(name):
    os.readv(pipe(name)[0], [bytearray(1)])


def write(name):
    _, end = pipe(name)
    while True:
        os.write(end, bytes(65536))


def poll(name):
    r, w = pipe(name)
    filled, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, bytes(65536))
    except BlockingIOError:
        pass
    about[name] = [r, full]
    asked = select.poll()
    asked.register(r, select.POLLIN)
    asked.register(full, select.POLLOUT)
    asked.poll()


def poll_timed(name):
    asked = select.poll()
    asked.register(pipe(name)[0], select.POLLIN)
    asked.poll(LONG)


def poll_empty(name):
    select.poll().poll(LONG)


class PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def ppoll(name):
    array = (PollFd * 2)((pipe(name)[0], select.POLLIN, 0), (-1, select.POLLIN, 0))
    LIBC.ppoll(array, ctypes.c_ulong(2), None, None)


def ppoll_many(name):
    fd = pipe(name)[0]
    array = (PollFd * 1500)(*[(fd, select.POLLIN, 0)] * 1500)
    LIBC.ppoll(array, ctypes.c_ulong(1500), (ctypes.c_long * 2)(LONG, 0), None)


def select_(name):
    r, w = pipe(name)
    select.select([r], [], [])


def select_timed(name):
    r, w = pipe(name)
    select.select([r], [], [r], LONG)


def epoll(name):
    asked = select.epoll()
    asked.register(pipe(name)[0], select.EPOLLIN)
    kept.append(asked)
    asked.poll()


def epoll_timed(name):
    asked = select.epoll()
    asked.register(pipe(name)[0], select.EPOLLIN)
    kept.append(asked)
    asked.poll(LONG)


def wait_child(name):
    about[name] = sleeper()
    os.waitpid(about[name], 0)


def wait_any(name):
    sleeper()
    os.waitpid(-1, 0)


def waitid(name):
    about[name] = sleeper()
    os.waitid(os.P_PID, about[name], os.WEXITED)


def waitid_pidfd(name):
    pid = sleeper()
    fd = os.pidfd_open(pid)
    about[name] = [pid, fd]
    os.waitid(3, fd, os.WEXITED)


def poll_pidfd(name):
    pid = sleeper()
    fd = os.pidfd_open(pid)
    about[name] = [pid, fd]
    asked = select.poll()
    asked.register(fd, select.POLLIN)
    asked.poll()


def locked(name):
    """Two descriptors of a new file, the first for a lock."""
    fd, path = tempfile.mkstemp(prefix="semtrace-test-")
    second = os.open(path, os.O_RDWR)
    info = os.fstat(fd)
    about[name] = [fd, second, path, os.major(info.st_dev), os.minor(info.st_dev), info.st_ino]
    return fd, second


def flock(name):
    first, second = locked(name)
    fcntl.flock(first, fcntl.LOCK_EX)
    fcntl.flock(second, fcntl.LOCK_EX)


OFD_SETLK, OFD_SETLKW = 37, 38


def ofd(name):
    first, second = locked(name)
    flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 5, 10, 0)
    fcntl.fcntl(first, OFD_SETLK, flock)
    fcntl.fcntl(second, OFD_SETLKW, flock)


def posix(name):
    """A child has the lock."""
    first, second = locked(name)
    ready, done = os.pipe()
    if os.fork() == 0:
        fcntl.lockf(first, fcntl.LOCK_EX, 7, 3)
        os.write(done, b"x")
        signal.pause()
    os.read(ready, 1)
    fcntl.lockf(second, fcntl.LOCK_SH)


def accept(name):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    about[name] = listener.fileno()
    kept.append(listener)
    listener.accept()


def accept_unix(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0semtrace-test-%d" % os.getpid())
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    about[name] = [listener.fileno(), client.fileno()]
    kept.extend((listener, client))
    listener.accept()


def receive(name):
    pair(name)[0].recv(1)


def receive_message(name):
    pair(name)[0].recvmsg(1)


def send(name):
    end = pair(name)[0]
    while True:
        end.send(bytes(65536))


def sleep(name):
    time.sleep(LONG)


def nanosleep(name):
    LIBC.nanosleep((ctypes.c_long * 2)(LONG, 0), None)


def pause(name):
    signal.pause()


def sigwait(name):
    signal.sigwait([signal.SIGUSR2])


def sigtimedwait(name):
    signal.sigtimedwait([signal.SIGUSR2], LONG)


def futex(name):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def futex_timed(name):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=LONG)


def eventfd(name):
    fd = LIBC.eventfd(0, 0)
    about[name] = fd
    os.read(fd, 8)


def other(name):
    """Opening a FIFO that nobody opens at the other end."""
    path = tempfile.mktemp(prefix="semtrace-test-")
    os.mkfifo(path)
    about[name] = path
    os.open(path, os.O_RDONLY)


def begin(name, tids):
    tids[name] = threading.get_native_id()
    globals()[name + "_" if name == "select" else name](name)


def main():
    tids = {}
    for name in sys.argv[1:]:
        threading.Thread(target=begin, args=(name, tids), daemon=True).start()
    while len(tids) < len(sys.argv) - 1:
        time.sleep(0.001)
    print(json.dumps(tids), flush=True)
    for _ in sys.stdin:
        print(json.dumps(about), flush=True)


main()
