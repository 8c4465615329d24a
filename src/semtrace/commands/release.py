"""`semtrace release PID LOCK`: releases an orphaned lock, or says what that would do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

from semtrace.commands.options import Parser, add_pid, add_yes
from semtrace.console.printing import emit_prose, say, working
from semtrace.console.signals import ending_on_signals, undisturbed
from semtrace.errors import EXIT_OK
from semtrace.model import Lock, SemId, Server
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.repairs import repair, report
from semtrace.repairs.audit import Audit, release_act, release_intent
from semtrace.repairs.repair import Released
from semtrace.servers import discovery

Say = Callable[[str], None]


def configure(command: Parser) -> None:
    command.explain(
        "Releases a lock that a dead process left locked: only what is proved orphaned, and proved again right before. "
        "Without --yes it says what it would do.",
        "semtrace release 4321 shop.lock  what that would do",
        "semtrace release 4321 shop.lock --yes  release it",
    )
    add_pid(command)
    command.add_argument("lock", metavar="LOCK", help="its name or id, as dump shows them")
    add_yes(command)


def run(options: argparse.Namespace) -> int:
    with ending_on_signals():
        server = discovery.choose(options.pid)
        with working(f"proving that nobody holds {options.lock}"):
            emit_prose(release(server, options.lock, yes=options.yes, audit=options.audit, say=say))
    return EXIT_OK


def release(server: Server, which: str, *, yes: bool, audit: str | None, say: Say) -> Iterator[str]:
    """Release the lock of that name or id, or preview that without `yes`. SemtraceError if it may not be released."""
    observer = Observer(server, search_budget_s=LONG_SEARCH_BUDGET_S)
    try:
        if yes:
            yield from report.outcome(_release(observer, which, audit, say))
            return
        lock = repair.choose(observer, which)
        yield from report.evidence(lock)
        repair.check_rights(observer, lock)
        yield from report.not_done(server.pid, lock, audit)
    finally:
        observer.close()


def releaser(audit: str | None, say: Say) -> Callable[[Server, SemId], Sequence[str]]:
    """Return the function that the live view calls, in a thread, to release a lock. It returns the result."""

    def act(server: Server, semaphore: SemId) -> Sequence[str]:
        return list(release(server, str(semaphore), yes=True, audit=audit, say=say))

    return act


def _release(observer: Observer, which: str, audit: str | None, say: Say) -> Released:
    lock: Lock = repair.choose(observer, which)
    server = observer.server.pid
    with Audit(audit, say) as log:
        repair.check_rights(observer, lock)
        intent = release_intent(server, lock)
        intended = acted = False

        def note(released: Released) -> None:
            nonlocal acted
            acted = True
            log.write(release_act(server, released))

        try:
            with undisturbed():
                log.intend(intent)
                intended = True
            return repair.release(observer, lock, note)
        except BaseException as error:  # Ctrl-C as well: who reads the record wants to know
            if intended and not acted:
                log.call_off(intent, error)
            raise
