"""Counters of bounded size for all observations, which can be written down and added up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

MOST_EVIDENCE, MOST_OF_A_KIND, MOST_DELAYS = 200, 3, 20_000


@dataclass
class Tally:
    """All keys of counters are text. `states` are of healthy locks; `delays` are in seconds, by how quiet it was."""

    judged: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[float]] = field(default_factory=dict)
    late: Counter[str] = field(default_factory=Counter)
    evidence: list[dict[str, object]] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
        for quiet, seconds in other.delays.items():
            self.delays[quiet] = (self.delays.get(quiet, []) + seconds)[-MOST_DELAYS:]
        for each_evidence in other.evidence:
            self.keep(each_evidence)

    def keep(self, evidence: dict[str, object]) -> None:
        """Keep the first few of each kind."""
        alike = [e for e in self.evidence if (e["what"], e["family"]) == (evidence["what"], evidence["family"])]
        if len(alike) < MOST_OF_A_KIND and len(self.evidence) < MOST_EVIDENCE:
            self.evidence.append(evidence)

    @property
    def failed(self) -> bool:
        return any(not key.startswith("qualified") for key in self.wrong) or bool(self.troubles)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self)))

    @classmethod
    def read(cls, path: Path) -> Tally:
        found = json.loads(path.read_text())
        counters = {f.name for f in fields(cls)} - {"delays", "evidence"}
        return cls(**{key: Counter(value) if key in counters else value for key, value in found.items()})


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None
