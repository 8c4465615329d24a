"""The differences between processors: one table, for all code that depends on them. Pages have the kernel's size.

64-bit and little-endian are assumed everywhere, and LP64 structures aligned as the System V ABIs have it. Nothing is
known about a processor that is not in the table: results that need a fact about it are unknown then.
"""

from __future__ import annotations

import os

from semtrace.lazydata import dataclass


@dataclass(frozen=True)
class Machine:
    """The facts about one processor; None or empty where it is not known, or has no such thing."""

    # musl src/internal/pthread_impl.h struct pthread: tid. dtv and canary lie before it unless TLS is above the thread
    # pointer. (A glibc says it itself: _thread_db_pthread_tid.)
    musl_tid: int | None = None
    # glibc sysdeps/x86_64/nptl/tls.h tcbhead_t: a thread's block has its own address as first and third word.
    block_has_self: bool = False
    # The code that a signal handler returns to: glibc sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c, musl
    # src/signal/x86_64/restore.s (`mov $15, %rax; syscall`). Elsewhere it lies in the vDSO.
    restorers: tuple[bytes, ...] = ()


_MACHINES = {
    "x86_64": Machine(0x30, True, (bytes.fromhex("48c7c00f0000000f05"), bytes.fromhex("b80f0000000f05"))),
    "aarch64": Machine(0x20),
    "riscv64": Machine(0x20),
}

MACHINE = _MACHINES.get(os.uname().machine, Machine())
