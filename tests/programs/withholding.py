"""A process that maps a file of a file system of its own, which answers no read: `withholding.py MOUNTPOINT UID [WAY]`.

`master`: it handles the signals that a gunicorn's master handles. `inside`: it maps nothing, but is in a directory of
that file system, which lets everybody in and answers no question for a name. `endless`: it ends by a signal only.

Started as root in a mount namespace of its own; what serves the file and what maps it run as that user. It says
`ready PID` once the file is mapped, and ends with its standard input, by which every reader gets an error.
The messages are those of Linux's include/uapi/linux/fuse.h, version 7.31.
"""

import ctypes
import mmap
import multiprocessing.synchronize
import os
import signal
import struct
import sys

NAME = b"libpython3.12.so"
SIZE = 1 << 20
HEADER = struct.Struct("<IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, padding
SIGNALS = "HUP QUIT INT TERM TTIN TTOU USR1 USR2 WINCH CHLD"  # gunicorn/arbiter.py init_signals
LOOKUP, GETATTR, OPEN, READ, INIT, OPENDIR, FORGET, BATCH_FORGET, INTERRUPT = 1, 3, 14, 15, 26, 27, 2, 42, 36


def attributes(inode):
    directory = inode == 1
    mode = 0o040755 if directory else 0o100755
    size = 0 if directory else SIZE
    return struct.pack(
        "<QQQQQQIIIIIIIIII", inode, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0
    )


def answer(fd, unique, body=b"", error=0):
    os.write(fd, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def serve(fd, silent):
    while True:
        try:
            data = os.read(fd, 1 << 17)
        except OSError:
            return
        _, opcode, unique, node, *_ = HEADER.unpack_from(data)
        if opcode == INIT:
            _, _, readahead, _ = struct.unpack_from("<IIII", data, HEADER.size)
            answer(fd, unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, readahead, 0, 12, 9, 1 << 16, 1, 16, 0, 0))
        elif opcode in silent:
            pass
        elif opcode == LOOKUP:
            found = data[HEADER.size :].rstrip(b"\0") == NAME
            body = struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + attributes(2)
            answer(fd, unique, body if found else b"", 0 if found else 2)
        elif opcode == GETATTR:
            answer(fd, unique, struct.pack("<QII", 3600, 0, 0) + attributes(node))
        elif opcode in (OPEN, OPENDIR):
            answer(fd, unique, struct.pack("<QII", 1, 0, 0))
        else:
            answer(fd, unique, error=38)


def main():
    point, user, ways = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    silent = {READ, FORGET, BATCH_FORGET, INTERRUPT} | ({LOOKUP} if "inside" in ways else set())
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id={user},group_id={user}"
    options += ",allow_other" if "inside" in ways else ""
    if ctypes.CDLL(None, use_errno=True).mount(b"withholding", point.encode(), b"fuse", 6, options.encode()):
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as an ordinary process of that user
    globals()["lock"] = multiprocessing.get_context("fork").Lock()  # the default one imports more, later
    globals()["lock"].acquire()
    server = os.fork()
    if not server:
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: a killed parent takes it along
        serve(fd, silent)
        os._exit(0)
    os.close(fd)
    for name in SIGNALS.split() if "master" in ways else ():
        signal.signal(getattr(signal, f"SIG{name}"), lambda *_: None)
    if "inside" in ways:
        os.chdir(point)
    else:
        file = os.open(os.path.join(point.encode(), NAME), os.O_RDONLY)
        globals()["withheld"] = mmap.mmap(file, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ)
    print("ready", os.getpid(), flush=True)
    if "endless" in ways:
        signal.pause()
    sys.stdin.read()
    os.kill(server, 9)


main()
