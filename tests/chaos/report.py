"""The report of the chaos test as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from tests.chaos.families import FAMILIES
from tests.chaos.tally import Tally, quantile

HANDED = {family.name for family in FAMILIES if family.handed}


def text(tally: Tally) -> str:
    return "\n".join(_lines(tally))


def _lines(tally: Tally) -> Iterator[str]:
    for evidence in tally.evidence:
        yield json.dumps(evidence, indent=1)
    yield from _families(tally)
    yield from _delays(tally)
    yield from _counted("not judged", _by_word(tally.unjudged, 1))
    yield from _counted("done", tally.acts)
    yield from _counted("unknown of healthy locks", tally.unknown, 25)
    yield from _counted("qualified", Counter({k: n for k, n in tally.wrong.items() if k.startswith("qualified")}))
    yield from _counted("WRONG", Counter({k: n for k, n in tally.wrong.items() if not k.startswith("qualified")}))
    yield from _counted("TROUBLES", tally.troubles)
    yield from _goals(tally)
    wrong = sum(n for k, n in tally.wrong.items() if not k.startswith("qualified"))
    yield f"{sum(tally.judged.values())} judgements, {wrong} wrong"


def _families(tally: Tally) -> Iterator[str]:
    yield "family             judged  wrong qualified  unknown when watching   states of healthy locks"
    for name in sorted({key.split()[0] for key in tally.judged}):
        judged = sum(n for key, n in tally.judged.items() if key.split()[0] == name)
        wrong = sum(n for key, n in tally.wrong.items() if key.startswith(f"{name} "))
        qualified = sum(n for key, n in tally.wrong.items() if key.startswith(f"qualified: {name} "))
        states = Counter[str]()
        watched = Counter[str]()
        for key, n in tally.states.items():
            family, source, state = key.split()
            if family == name:
                states[state] += n
                watched[state] += n if source == "watching" else 0
        shown = ", ".join(f"{state} {n}" for state, n in states.most_common())
        yield f"{name:16} {judged:8} {wrong:6} {qualified:9} {_share(states):>8} {_share(watched):>12}   {shown}"


def _share(states: Counter[str]) -> str:
    return f"{states['unknown'] / max(states.total(), 1):.1%}"


def _delays(tally: Tally) -> Iterator[str]:
    yield "seconds until found: number, median, 99 %, longest; found later than 2 s, 5 s, never"
    for sort in sorted({*tally.delays, *(key.partition(":")[0] for key in tally.late)}):
        seconds = tally.delays.get(sort, [])
        never = sum(n for key, n in tally.late.items() if key.partition(":")[0] == sort)
        middle, most = quantile(seconds, 0.5), quantile(seconds, 0.99)
        shown = f"{middle:6.2f} {most:6.2f} {max(seconds):6.2f}" if seconds else f"{'-':>6} {'-':>6} {'-':>6}"
        later = [sum(each > limit for each in seconds) for limit in (2, 5)]
        yield f"  {sort:40} {len(seconds):6} {shown}   {later[0]:4} {later[1]:4} {never:4}"


def _goals(tally: Tally) -> Iterator[str]:
    """The figures that issue 11 sets, of what this run has seen."""
    quiet = [each for sort, seconds in tally.delays.items() if sort.endswith("quiet") for each in seconds]
    never = sum(n for key, n in tally.late.items() if "quiet" in key)
    for limit, goal in ((2, "99 %"), (5, "all")):
        if quiet or never:
            share = sum(each <= limit for each in quiet) / (len(quiet) + never)
            yield f"found within {limit} s in quiet: {share:.1%} of {len(quiet) + never} (to reach: {goal})"
    busy = Counter[str]()
    for key, n in tally.states.items():
        family, source, state = key.split()
        if family not in HANDED and source == "watching":
            busy[state] += n
    yield f"unknown of healthy locks while watching: {_share(busy)} (to reach: under 2 %)"


def _by_word(counter: Counter[str], word: int) -> Counter[str]:
    found = Counter[str]()
    for key, n in counter.items():
        found[" ".join(key.split()[word:])] += n
    return found


def _counted(what: str, counter: Counter[str], most: int = 60) -> Iterator[str]:
    if counter:
        yield f"{what}:"
        for key, n in counter.most_common(most):
            yield f"  {n:8} {key}"
