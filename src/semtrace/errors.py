"""Errors that a user can fix: each carries its remedy and its exit code."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_FINDINGS = 3
EXIT_NOT_PERMITTED = 4
EXIT_NO_SERVER = 5


class SemtraceError(Exception):
    """One line saying what happened (`str(error)`), one saying what to do about it (`remedy`)."""

    exit_code = EXIT_FAILED

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class UsageError(SemtraceError):
    """The command line asks for something that cannot be done as asked."""

    exit_code = EXIT_USAGE


class SeveralServers(UsageError):
    """No PID was given and more than one server runs; `pids` are the masters'."""

    def __init__(self, what: str, remedy: str, pids: tuple[int, ...]) -> None:
        super().__init__(what, remedy)
        self.pids = pids


class NotPermitted(SemtraceError):
    """The kernel refuses to show the target to this user."""

    exit_code = EXIT_NOT_PERMITTED


class NoServer(SemtraceError):
    """No such process, no gunicorn, or it ended."""

    exit_code = EXIT_NO_SERVER


class Refused(SemtraceError):
    """A repair that is not safe, or not needed: nothing was done."""
