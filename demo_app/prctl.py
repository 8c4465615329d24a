"""Two things that a process can ask of the Linux kernel and that Python's standard library does not offer."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_PTRACER = 0x59616D61

_prctl = ctypes.CDLL(None).prctl


def die_with_parent(how: signal.Signals) -> None:
    """Receive this signal when the process that started this one ends, even by SIGKILL."""
    _prctl(PR_SET_PDEATHSIG, how, 0, 0, 0)


def let_family_look(ancestor: int) -> None:
    """Let this ancestor and its other descendants read this process's memory.

    Ubuntu's Yama (ptrace_scope 1) allows that to a process's own ancestors only, and the semtrace that the demo starts
    is a sibling of gunicorn. Where there is no Yama the call fails, and nothing is lost.
    """
    _prctl(PR_SET_PTRACER, ctypes.c_ulong(ancestor), 0, 0, 0)
