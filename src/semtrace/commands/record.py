"""`semtrace record`: from servers to files, until somebody stops it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from semtrace.commands.options import Parser, add_ignore, add_pid, byte_size, duration, limits, seconds
from semtrace.console.printing import say
from semtrace.errors import EXIT_NOT_PERMITTED, EXIT_OK, NoServer, UsageError
from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, Server
from semtrace.record.asked import Asked
from semtrace.record.recorder import Recorder, Wanted
from semtrace.record.sink import CannotWrite, File, Full
from semtrace.record.successor import successors
from semtrace.rules.coverage import nothing_seen
from semtrace.servers import discovery
from semtrace.text import age, clean, counted, size

# With --all: how often new servers are looked for.
_LOOK_EVERY_S = 5.0
# With --reconnect: how often the restarted server is looked for.
_LOOK_AGAIN_S = 1.0

Say = Callable[[str], None]


def configure(command: Parser) -> None:
    command.explain(
        "Records snapshots of a server until it ends, or until SIGINT or SIGTERM. Changes nothing in it.",
        "semtrace record 4321 -o shop.semrec  until it is stopped",
        "semtrace record 4321 --keep 10m -o shop.semrec  the last minutes, when an error is found",
    )
    add_pid(command)
    command.add_argument("-o", dest="out", type=Path, required=True, metavar="FILE", help="a new file; --all: a folder")
    command.add_argument(
        "--interval", type=seconds, default=0.2, metavar="SECONDS", help="between two snapshots (default: 0.2)"
    )
    command.add_argument(
        "--for", dest="duration", type=duration, metavar="TIME", help="stop after this long, as 90s or 10m"
    )
    command.add_argument(
        "--max-size", type=byte_size, metavar="SIZE", help="stop before the file is larger, as 50M or 1G"
    )
    command.add_argument(
        "--keep",
        type=duration,
        metavar="TIME",
        help="keep only so much, in memory; write it when an error is found, a worker dies, or at SIGUSR1, and go on",
    )
    command.add_argument("--also-events", action="store_true", help="also each act of traced locks")
    command.add_argument("--no-stacks", action="store_true", help="not where holders and waiters are, by py-spy")
    command.add_argument("--all", action="store_true", help="every gunicorn of this machine, also those started later")
    command.add_argument(
        "--reconnect", action="store_true", help="when the gunicorn is restarted, go on in FILE-2, FILE-3 and so on"
    )
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    wanted = Wanted(options.interval, options.keep, options.also_events, not options.no_stacks, limits(options))
    order = Order(options.out, wanted, options.pid, options.duration, options.max_size, options.all, options.reconnect)
    return record(order, say)


@dataclass(frozen=True)
class Order:
    """Options of the command line. `every`: all gunicorns, now and later, into files in the folder `out`. `reconnect`:
    when the server has ended, wait for the one that it is restarted as.
    """

    out: Path
    wanted: Wanted
    pid: int | None = None
    for_s: float | None = None
    most: int | None = None
    every: bool = False
    reconnect: bool = False


def record(order: Order, say: Say) -> int:
    """Record until the time is over, the server has ended, the file is full, or a signal ends it."""
    recording = _Recording(order, say)
    try:
        with Asked() as asked:
            recording.start()
            recording.run(asked)
    finally:
        recording.close()
    return EXIT_NOT_PERMITTED if recording.blind else EXIT_OK


class _Recording:
    def __init__(self, order: Order, say: Say) -> None:
        self._order = order
        self._say = say
        self._recorders: list[Recorder] = []
        self._known: set[ProcessId] = set()
        self._look_due_s = 0.0
        self._gone: Server | None = None
        self._parts = 1
        self._end_s = float("inf")
        self.blind = False

    def start(self) -> None:
        if self._order.every:
            if not self._order.out.is_dir():
                raise UsageError(f"{self._order.out} is not a folder", "with --all, -o names a folder")
            self._look_for_servers()
            if not self._recorders:
                self._say("no gunicorn is running on this machine yet")
            return
        server = discovery.choose(self._order.pid)
        if self._order.reconnect and server.kind != "gunicorn":
            raise UsageError("only a gunicorn can be found again after a restart", "record it without --reconnect")
        self._begin(server, self._order.out)

    def run(self, asked: Asked) -> None:
        """Record until it is asked to stop, or for the time that was ordered: that begins now."""
        due_s = time.monotonic()
        if self._order.for_s is not None:
            self._end_s = due_s + self._order.for_s
        while asked.stop is None and self._goes_on() and time.monotonic() < self._end_s:
            if time.monotonic() >= due_s:
                due_s = max(due_s + self._order.wanted.interval_s, time.monotonic())
                self._step()
            else:
                for recorder in self._recorders:
                    self._unless_full(recorder, recorder.store_events)
            if asked.to_write():
                for recorder in self._recorders:
                    self._unless_full(recorder, lambda recorder=recorder: recorder.write("SIGUSR1"))  # type: ignore[misc]
                    self._say_why(recorder)
            fds = [fd for recorder in self._recorders for fd in recorder.ready]
            ends = [fd for recorder in self._recorders for fd in recorder.ends]
            ready = asked.wait(min(due_s, self._end_s) - time.monotonic(), (*fds, *ends))
            if not ready.isdisjoint(ends):
                due_s = time.monotonic()  # somebody has died: one snapshot now
        self._take(in_any_case=True)  # what was between the last snapshot and the end

    def _goes_on(self) -> bool:
        return bool(self._recorders or self._order.every or self._gone)

    def close(self) -> None:
        for recorder in list(self._recorders):
            with suppress(Full, CannotWrite):
                recorder.store_events()
            self._end(recorder)

    def _step(self) -> None:
        if self._order.every and time.monotonic() >= self._look_due_s:
            self._look_for_servers()
        if self._gone is not None and time.monotonic() >= self._look_due_s:
            self._look_for(self._gone)
        self._take()

    def _take(self, in_any_case: bool = False) -> None:
        for recorder in list(self._recorders):
            self._unless_full(recorder, recorder.step if in_any_case else recorder.tick)
            self._say_why(recorder)
            if recorder.ended and recorder in self._recorders:
                self._say(f"the server {recorder.server.pid} has ended")
                self._end(recorder)
                if self._order.reconnect:
                    self._gone = recorder.server
                    self._say("waiting until it is started again")

    def _unless_full(self, recorder: Recorder, act: Callable[[], None]) -> None:
        try:
            act()
        except Full:
            self._say(f"{recorder.file.path} has reached --max-size")
            self._end(recorder)

    def _look_for_servers(self) -> None:
        self._look_due_s = time.monotonic() + _LOOK_EVERY_S
        with suppress(NoServer):
            for server in discovery.gunicorns():
                if server.id not in self._known:
                    began = time.strftime("%Y%m%d-%H%M%S")
                    self._begin(server, self._order.out / f"semtrace-{server.pid}-{began}.semrec")

    def _look_for(self, gone: Server) -> None:
        """Record the server on if it has been restarted, into a file of its own."""
        self._look_due_s = time.monotonic() + _LOOK_AGAIN_S
        found: Sequence[Server] = ()
        with suppress(NoServer):
            found = successors(gone, discovery.gunicorns(), self._known)
        if len(found) == 1:
            self._gone = None
            self._begin(found[0], self._next_path())

    def _next_path(self) -> Path:
        """Return FILE-2, FILE-3 …, the next that is not there."""
        out = self._order.out
        while True:
            self._parts += 1
            path = out.with_name(f"{out.stem}-{self._parts}{out.suffix}")
            if not path.exists():
                return path

    def _begin(self, server: Server, path: Path) -> None:
        self._known.add(server.id)
        file = File(path, self._order.most)
        try:
            recorder = Recorder(server, self._order.wanted, file)
        except BaseException:
            file.close()
            raise
        self._recorders.append(recorder)
        where = f"to {path}"
        if self._order.wanted.keep_s is not None:
            where = f"in memory; when an error is found, a worker dies, or at SIGUSR1, it goes {where}"
        self._say(f"recording {clean(server.title)} (PID {server.pid}) {where}")

    def _say_why(self, recorder: Recorder) -> None:
        for reason in recorder.reasons:
            self._say(f"wrote what was kept to {recorder.file.path}: {reason}")
        recorder.reasons.clear()

    def _end(self, recorder: Recorder) -> None:
        self._recorders.remove(recorder)
        recorder.close()
        self.blind |= recorder.last is not None and nothing_seen(recorder.last)
        for sentence in _summary(recorder):
            self._say(sentence)


def _summary(recorder: Recorder) -> Iterator[str]:
    if recorder.is_empty:  # a ring that was never written: a file without a snapshot would only mislead
        with suppress(OSError):
            recorder.file.path.unlink()
        yield f"{counted(recorder.taken, 'snapshot')} taken; nothing happened, so nothing was written"
        return
    events = f", {counted(recorder.events, 'event')}" if recorder.wants_events else ""
    lost = f", {recorder.unrecordable} could not be recorded" if recorder.unrecordable else ""
    watched = f" over {age(recorder.last.watched_s)}" if recorder.last is not None else ""
    what = f"{counted(recorder.written, 'snapshot')}{events}{watched}{lost}"
    yield f"{what}, {size(recorder.file.size)} in {recorder.file.path}"
