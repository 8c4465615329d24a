"""`semtrace clean`: removes leftover semaphores and SharedMemory blocks, or lists them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Sequence

from semtrace.commands.options import Parser, add_yes
from semtrace.console.printing import emit_prose, say
from semtrace.console.signals import ending_on_signals, undisturbed
from semtrace.errors import EXIT_OK, SemtraceError
from semtrace.linux.users import name_of
from semtrace.repairs import leftovers, report
from semtrace.repairs.audit import Act, Audit, clean_act, clean_intent
from semtrace.repairs.leftovers import Found
from semtrace.text import counted_names

Say = Callable[[str], None]


def configure(command: Parser) -> None:
    command.explain(
        "Removes the semaphores and SharedMemory blocks that Python made in /dev/shm and that no process uses. Without "
        "--yes it lists them.",
        "semtrace clean  what there is",
        "semtrace clean --yes  remove it",
    )
    add_yes(command)


def run(options: argparse.Namespace) -> int:
    with ending_on_signals():
        emit_prose(clean(yes=options.yes, audit=options.audit, say=say))
    return EXIT_OK


def clean(*, yes: bool, audit: str | None, say: Say, directory: str = leftovers.DIRECTORY) -> Iterator[str]:
    """Remove the leftovers, or list them without `yes`. SemtraceError if the directory cannot be read."""
    try:
        found = leftovers.find(directory)
    except OSError as error:
        why = error.strerror or str(error)
        raise SemtraceError(f"cannot read {directory}: {why}", "so nothing was done") from error
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
    """Write the result of each intended removal into the record."""
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
