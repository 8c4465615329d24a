"""The names in a server's /dev/shm that no process uses: judged as `clean` judges them, never touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from semtrace.lazydata import dataclass
from semtrace.linux.users import name_of
from semtrace.model import LeakedName, NameSort, Problem
from semtrace.repairs import leftovers
from semtrace.repairs.leftovers import Found
from semtrace.text import counted_names


@dataclass(frozen=True)
class Leaks:
    """`names` are None where nothing could be looked at; `problems` say what is not known."""

    names: tuple[LeakedName, ...] | None
    problems: tuple[Problem, ...] = ()


def leaks(pid: int, *, young: bool = False) -> Leaks:
    """Those of the /dev/shm that this process has, on demand also the `young` that `clean` would leave alone."""
    return find(f"/proc/{pid}/root{leftovers.DIRECTORY}", young=young)


def find(directory: str, *, young: bool = False) -> Leaks:
    try:
        found = leftovers.find(directory, young=young)
    except FileNotFoundError:  # a container need not have one
        return Leaks(())
    except OSError as error:
        lost = "so leftover names there are not found; root can read it"
        return Leaks(None, (Problem("read its /dev/shm", error.strerror or str(error), lost, unread="shared-memory"),))
    unused = [each for each in found if each.kept is None or (young and each.young)]
    names = tuple(leaked for each in unused if (leaked := _leaked(each)) is not None)
    return Leaks(names, tuple(_doubts([each for each in found if each.unsure])))


def _leaked(found: Found) -> LeakedName | None:
    entry = found.entry
    if entry.id is None:
        return None
    name, user = f"/{entry.name.removeprefix('sem.')}", name_of(entry.owner)
    return LeakedName(entry.id, name, entry.age_s, user, entry.sort, entry.room)


def _doubts(unsure: Sequence[Found]) -> list[Problem]:
    """One for each reason: that nothing was found is not to be taken for more than it is."""
    reasons: dict[str, list[NameSort]] = defaultdict(list)
    for each in unsure:
        reasons[each.kept or ""].append(each.entry.sort)
    return [
        Problem(
            f"tell whether {counted_names(sorts, 'old ')} in /dev/shm {'is' if len(sorts) == 1 else 'are'} still used",
            why,
            "so they are not reported; their owner and root can ask the kernel: semtrace clean",
            unread="unused-names",
        )
        for why, sorts in reasons.items()
    ]
