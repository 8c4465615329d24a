"""A server of two users: root's process has two traced locks, its child becomes another user. `mixed_users.py UID`."""

import os
import sys

import semtrace

semtrace.install()


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece: two processes write


def main():
    locks = [semtrace.Lock("payments"), semtrace.Lock("orders")]  # no module knows them: only their files name them
    for lock in locks:
        with lock:
            pass
    handles = [lock._semlock.handle for lock in locks]
    kept = map(id, locks)  # which no walk looks into
    del locks, lock
    child = os.fork()
    if not child:
        user = int(sys.argv[1])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        say("child", os.getpid())
        sys.stdin.read()
        os._exit(0)
    say("root", os.getpid(), *handles)
    sys.stdin.read()
    os.waitpid(child, 0)
    del kept


main()
