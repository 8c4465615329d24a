"""One server under watch: a thread takes a snapshot at each interval, and its numbers are what a scrape shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from semtrace.errors import SemtraceError
from semtrace.linux.process import read_stat
from semtrace.metrics.deaths import Deaths
from semtrace.metrics.reading import Counting, Reading
from semtrace.model import ProcessId, Server
from semtrace.observe.observer import Observer
from semtrace.rules import Limits
from semtrace.tracing.follower import Follower

# While a proof or a search is under way, samples follow each other sooner: for so long, and with so much of a
# processor at most.
_SETTLE_S = 15.0
_SOON_S = 0.1
_SHARE = 0.2

_RETRY_S = 5.0


class Watch:
    """`reading` is None before the first sample, and stays as it was where sampling hangs or fails: its time shows it.

    `changed` is called after each sample, `report` with what went wrong.
    """

    def __init__(
        self,
        server: Server,
        interval_s: float,
        limits: Limits,
        changed: Callable[[], object],
        report: Callable[[str], object],
    ) -> None:
        self.server = server
        self.reading: Reading | None = None
        self.ended = False
        self._interval_s, self._limits = interval_s, limits
        self._changed, self._report = changed, report
        self._blind = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="semtrace-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end, which removes the pipes of traced locks."""
        self._stopped.set()

    def join(self, wait_s: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        counting = Counting(Deaths(_lives))
        reported = ""
        while not self._stopped.is_set() and not self.ended:
            try:
                self._follow(counting)
            except Exception as error:  # noqa: BLE001  a sampler that ended in silence would leave the server unwatched
                why = f"{self.server.title}: {'' if isinstance(error, SemtraceError) else 'sampling failed: '}{error}"
                if why != reported:
                    self._report(why)
                reported = why
                self._stopped.wait(_RETRY_S)
        self._changed()

    def _follow(self, counting: Counting) -> None:
        observer = Observer(self.server, trace_source=Follower(), limits=self._limits)
        pace = Pace(self._interval_s)
        try:
            while not self._stopped.is_set():
                began_s = time.monotonic()
                snapshot = observer.snapshot()
                if not snapshot.alive:
                    self.ended = True
                    return
                self.reading = counting.read(snapshot)
                self._report_blindness(self.reading.unreadable)
                self._changed()
                now_s = time.monotonic()
                self._stopped.wait(pace.pause_s(now_s, now_s - began_s, observer.undecided()))
        finally:
            observer.close()

    def _report_blindness(self, unreadable: int) -> None:
        if unreadable and not self._blind:
            which = f"{unreadable} of its processes cannot be read"
            self._report(f"{self.server.title}: {which}: semtrace dump {self.server.pid} shows which right is missing")
        self._blind = unreadable > 0


class Pace:
    """Decide when the next sample is due. Pure."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._undecided_since_s: float | None = None

    def pause_s(self, now_s: float, took_s: float, undecided: bool) -> float:
        """Return how long to wait after a sample that ended now and took so long."""
        if not undecided:
            self._undecided_since_s = None
        elif self._undecided_since_s is None:
            self._undecided_since_s = now_s
        regular_s = max(self._interval_s - took_s, 0.0)
        if self._undecided_since_s is None or now_s - self._undecided_since_s > _SETTLE_S:
            return regular_s
        return min(max(_SOON_S, took_s / _SHARE), max(regular_s, _SOON_S))


def _lives(process: ProcessId) -> bool:
    stat = read_stat(process.pid)
    return stat is not None and stat.id == process and not stat.ended
