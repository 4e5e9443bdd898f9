"""How many requests were answered, and how the numbers of a scrape are written down."""

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override


class Metrics:
    """Counts requests, and gathers the rest when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "amends_http_requests",
            "Requests answered, by path of the API.",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self._answered: Counted[tuple[str, str, int]] = Counted()

    def answered(self, method: str, path: str, status: int) -> None:
        """One more request was answered. Cheap: it is told to Prometheus's own counters at the next scrape."""
        self._answered[method, path, status] += 1

    def text(self, gathered: Iterable[Metric]) -> bytes:
        """What Prometheus reads."""
        answered, self._answered = self._answered, Counted()
        for (method, path, status), count in answered.items():
            self._requests.labels(method, path, str(status)).inc(count)
        once = CollectorRegistry()
        once.register(_Gathered(gathered))
        return generate_latest(self.registry) + generate_latest(once)


class _Gathered(Collector):
    """Metrics that are there already."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    @override
    def collect(self) -> Iterable[Metric]:
        return self._found
