"""The limit on open files: it is raised, and where it is reached nobody is taken for dead."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from semtrace.errors import SemtraceError
from semtrace.linux import files
from semtrace.linux.futex import read_thread
from semtrace.linux.process import last_pid, read_stat, still


@contextlib.contextmanager
def at_most(number: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_lack_of_descriptors_is_not_mistaken_for_an_ended_process() -> None:
    own = read_stat(os.getpid())
    assert own is not None
    with at_most(0):
        with pytest.raises(SemtraceError, match="as many files open") as caught:
            read_stat(os.getpid())
        assert "ulimit" in caught.value.remedy
        with pytest.raises(SemtraceError):
            still(own.id)
        with pytest.raises(SemtraceError):
            last_pid()
        with pytest.raises(SemtraceError):
            read_thread(os.getpid(), os.getpid())


def test_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with at_most(64):
        files.allow_many()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft > 64
        assert hard == resource.RLIM_INFINITY or soft <= hard
        files.allow_many()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft
