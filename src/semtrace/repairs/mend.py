"""The repairs as commands: what is found, what is done if that is wanted, and what came of it, line by line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from semtrace.errors import SemtraceError
from semtrace.linux.users import name_of
from semtrace.model import Lock, SemId, Server
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.repairs import leftovers, repair, report
from semtrace.repairs.audit import Act, Audit, clean_act, clean_intent, release_act, release_intent
from semtrace.repairs.leftovers import Found
from semtrace.repairs.repair import Released
from semtrace.signals import undisturbed
from semtrace.text import counted_names

Say = Callable[[str], None]


def release(server: Server, which: str, *, yes: bool, audit: str | None, say: Say) -> Iterator[str]:
    """Releases the lock of that name or id, or without `yes` says what that would do; SemtraceError if it may not."""
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
    """What the live view calls, in a thread, to release a lock: gives what came of it."""

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


def clean(*, yes: bool, audit: str | None, say: Say, directory: str = leftovers.DIRECTORY) -> Iterator[str]:
    """Removes the leftovers, or without `yes` lists them; SemtraceError if the directory cannot be read."""
    try:
        found = leftovers.look(directory)
    except OSError as error:
        why = error.strerror or str(error)
        raise SemtraceError(f"cannot look into {directory}: {why}", "so nothing was done") from error
    gone = [each for each in found if each.kept is None]
    if not yes:
        yield from report.leftovers(found, name_of)
        if gone:
            yield "Nothing was done. To remove them:"
            yield f"  semtrace clean --yes{f' --audit {shlex.quote(audit)}' if audit else ''}"
        return
    with Audit(audit, say) as log:
        done = _remove_all(gone, log, directory)
    removed = counted_names((each.entry.sort for each in done if each.kept is None), "leftover ")
    yield f"Removed {removed} from {directory}."
    yield from report.kept([each for each in (*found, *done) if each.kept is not None])


def _remove_all(gone: Sequence[Found], log: Audit, directory: str) -> list[Found]:
    """Of each that was intended to be removed the record says what became of it."""
    done: list[Found] = []
    left = list(gone)
    intended = False
    try:
        with undisturbed():
            if gone:
                log.intend(_intent(gone))
                intended = True
        while left:
            with undisturbed():
                done.append(_remove(left.pop(0), log, directory))
    except BaseException as error:
        if intended and left:
            log.call_off(_intent(left), error)
        raise
    return done


def _remove(found: Found, log: Audit, directory: str) -> Found:
    done = leftovers.remove(found, directory)
    entry = done.entry
    if done.kept is None:
        before: dict[str, object] = {
            "sort": entry.sort,
            "size": entry.size,
            "room": entry.room,
            "owner": name_of(entry.owner),
            "age_s": round(entry.age_s, 3),
        }
        log.write(clean_act(str(entry.id), entry.name, done.evidence, before))
    else:
        log.call_off(_intent([done]), SemtraceError(done.kept))
    return done


def _intent(found: Sequence[Found]) -> Act:
    return clean_intent((each.entry.name, each.entry.sort) for each in found)
