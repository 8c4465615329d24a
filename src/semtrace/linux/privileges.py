"""Give up what root has and semtrace never needs: capabilities, and the gain of new ones by executing a program."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from contextlib import suppress

# include/uapi/linux/capability.h
CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, SETGID, SETUID, NET_BIND_SERVICE = 0, 1, 2, 3, 6, 7, 10
SYS_CHROOT, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, LEASE, CHECKPOINT_RESTORE = 18, 19, 21, 24, 28, 40
_HIGHEST = 63
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")

# include/uapi/linux/prctl.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38

# To look: other users' memory, files and control sockets. SYS_ADMIN counts the users of a page where somebody cannot be
# read (`pagecount`), and LEASE asks whether a file is in use.
TO_LOOK = frozenset(
    {DAC_OVERRIDE, DAC_READ_SEARCH, SYS_PTRACE, CHECKPOINT_RESTORE, SYS_ADMIN, SYS_CHROOT, LEASE, SYS_RESOURCE}
)

# For py-spy: memory and files, also those in a container, whose namespace it enters.
TO_READ_STACKS = frozenset({DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN, SYS_CHROOT})

# To give a pipe to another user, and to remove what another user has made in a sticky directory.
TO_ACT = TO_LOOK | {CHOWN, FOWNER}

# To listen on a port below 1024.
TO_SERVE = TO_ACT | {NET_BIND_SERVICE}

# To be nobody in the process that listens (`metrics`).
TO_EXPORT = TO_SERVE | {SETGID, SETUID}


def drop_all_but(kept: Collection[int]) -> None:
    """Keep no more of what this thread, and all that it starts, may do; nothing happens without capabilities."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(_HIGHEST + 1):
        if number not in kept:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL: this kernel does not know it
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with suppress(AttributeError, OSError):
        _restrict(libc, kept)


def drop_all() -> None:
    """Keep no capability, also as another user than root, who may have ambient ones."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with suppress(AttributeError, OSError):
        _restrict(libc, ())


def _restrict(libc: ctypes.CDLL, kept: Collection[int]) -> None:
    """Effective, permitted and inheritable, each in two words (capget(2))."""
    header = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0))
    sets = ctypes.create_string_buffer(_SETS.size)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    words = list(_SETS.unpack(sets.raw[: _SETS.size]))
    for half in range(2):
        mask = sum(1 << number % 32 for number in kept if number // 32 == half)
        for place in range(3):
            words[3 * half + place] &= mask
    if libc.capset(header, ctypes.create_string_buffer(_SETS.pack(*words))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
