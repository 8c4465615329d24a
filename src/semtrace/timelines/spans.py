"""A span of time in which somebody held or waited, and short ones counted together where there are too many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from semtrace.lazydata import replace
from semtrace.model import ProcessId, SemId, Target

What = Literal["held", "waiting", "orphaned"]
Thing = SemId | Target  # a lock, or what else keeps a worker from its work
Key = tuple[Thing, "ProcessId | None", "int | None", What]

BUCKET_S = 0.25
LONGEST_BUCKET_S = 4.0
WORTH = 4  # counting together is done so coarsely that it leaves one in so many, if that can be


@dataclass(slots=True)
class Span:
    """Times are CLOCK_MONOTONIC in seconds. `process` is None for an orphaned lock. A span that goes on grows in place.

    `exact`: from events. A span of one sample alone has no length. In a bucket, whose `longest_s` is not None, short
    ones of one thread and lock are counted together: `count` of them took `share` of the time. With `one_in` above 1
    only so many of them were read, and the share is estimated from those.
    """

    lock: Thing
    process: ProcessId | None
    tid: int | None
    what: What
    start: float
    end: float
    exact: bool = False
    site: str | None = None
    share: float = 1.0
    count: int = 1
    longest_s: float | None = None
    one_in: float = 1

    @property
    def key(self) -> Key:
        return self.lock, self.process, self.tid, self.what

    @property
    def counted(self) -> bool:
        """It is a bucket: of its single spans nothing is known any more."""
        return self.longest_s is not None


def bucket_for(span: Span, bucket_s: float) -> Span:
    """An empty one, for spans that end when this one does."""
    start = span.end // bucket_s * bucket_s
    return replace(span, start=start, end=start + bucket_s, share=0.0, count=0, longest_s=0.0)


def count(bucket: Span, span: Span, took_s: float) -> None:
    """Put a span, or another bucket, into the bucket. `took_s` is how much of the time it stands for."""
    longest_s = span.end - span.start if span.longest_s is None else span.longest_s
    bucket.share = min(bucket.share + took_s / (bucket.end - bucket.start), 1.0)
    bucket.count += span.count
    bucket.longest_s = max(bucket.longest_s or 0.0, longest_s)
    bucket.one_in = max(bucket.one_in, span.one_in)
    bucket.site = span.site or bucket.site


def together(spans: Sequence[Span]) -> Iterable[Span]:
    """Fewer spans for many: the short ones in buckets, each where its last one was, the long ones as they are."""
    bucket_s = _coarseness(spans)
    found: dict[object, Span] = {}
    for number, span in enumerate(spans):
        if span.end - span.start >= bucket_s:
            found[number] = span
            continue
        key = (*span.key, span.exact, span.end // bucket_s)
        bucket = found.pop(key, None) or bucket_for(span, bucket_s)
        found[key] = bucket
        count(bucket, span, (span.end - span.start) * span.share)
    return found.values()


def _coarseness(spans: Sequence[Span]) -> float:
    keys = len({span.key for span in spans})
    ends = [span.end for span in spans]
    length = max(ends) - min(ends)
    bucket_s = BUCKET_S
    while bucket_s < LONGEST_BUCKET_S and keys * (length / bucket_s + 1) > len(spans) / WORTH:
        bucket_s *= 2
    return bucket_s
