"""The text that a scrape gets, rendered once for each new reading and not for each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from semtrace.lazydata import dataclass
from semtrace.metrics.families import Readings, families


@dataclass(frozen=True)
class Page:
    """The same metrics in both formats."""

    plain: bytes
    openmetrics: bytes


class ReadingsCollector(Collector):
    """Give a registry the families of the newest readings. `publish` is called by one thread, `collect` by any."""

    def __init__(self) -> None:
        self._readings: Readings = {}

    def publish(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        return families(self._readings)

    def describe(self) -> Iterator[Metric]:
        """Yield the families without any server, so that no registry calls `collect` to learn their names."""
        return families({})


class Pages:
    """Render pages of readings."""

    def __init__(self) -> None:
        self._collector = ReadingsCollector()
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)

    def render(self, readings: Readings) -> Page:
        self._collector.publish(readings)
        return Page(generate_latest(self._registry), _openmetrics(self._registry))

    def plain(self, readings: Readings) -> bytes:
        self._collector.publish(readings)
        return generate_latest(self._registry)


def _openmetrics(registry: Collector) -> bytes:
    rendered: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return rendered
