"""The names in a server's /dev/shm that no process uses any more: judged as `clean` judges them, never touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semtrace.linux.users import name_of
from semtrace.model import LeakedName, Problem
from semtrace.repairs import leftovers
from semtrace.repairs.leftovers import Found
from semtrace.text import counted


@dataclass(frozen=True, slots=True)
class Leaks:
    """`names` are None where nothing could be looked at; `problems` say what is not known."""

    names: tuple[LeakedName, ...] | None
    problems: tuple[Problem, ...] = ()


def leaks(pid: int) -> Leaks:
    """Those of the /dev/shm that this process has."""
    return look(f"/proc/{pid}/root{leftovers.DIRECTORY}")


def look(directory: str) -> Leaks:
    try:
        found = leftovers.look(directory)
    except FileNotFoundError:  # a container need not have one
        return Leaks(())
    except OSError as error:
        lost = "so leftover names there are not looked for; root can look"
        return Leaks(
            None, (Problem("look into its /dev/shm", error.strerror or str(error), lost, unread="shared-memory"),)
        )
    names = tuple(told for each in found if each.kept is None and (told := _leaked(each)) is not None)
    return Leaks(names, tuple(_doubts([each for each in found if each.unsure])))


def _leaked(found: Found) -> LeakedName | None:
    entry = found.entry
    if entry.id is None:
        return None
    return LeakedName(entry.id, f"/{entry.name.removeprefix('sem.')}", entry.age_s, name_of(entry.owner))


def _doubts(unsure: Sequence[Found]) -> list[Problem]:
    """One for each reason: that nothing was found is not to be taken for more than it is."""
    reasons: dict[str, int] = {}
    for each in unsure:
        reasons[each.kept or ""] = reasons.get(each.kept or "", 0) + 1
    return [
        Problem(
            f"tell whether {counted(count, 'old semaphore')} in /dev/shm {'is' if count == 1 else 'are'} still used",
            why,
            "so nothing is said of them; their owner and root can ask the kernel: semtrace clean",
            unread="unused-names",
        )
        for why, count in reasons.items()
    ]
