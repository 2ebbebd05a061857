"""What the server counts, in the text format of Prometheus."""

from typing import TYPE_CHECKING, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from resnext.deploy.serving.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one server."""

    def __init__(self, gate: Gate) -> None:
        cast("Callable[[], None]", disable_created_metrics)()  # it has no types
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "resnext_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "resnext_request_seconds",
            "From the head of a request to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.pictures = Counter(
            "resnext_pictures", "Pictures by outcome.", ("outcome",), registry=self._registry
        )
        self.batches = Histogram(
            "resnext_batch_pictures",
            "Pictures that the engine was given at once.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self.engine_seconds = Histogram(
            "resnext_engine_seconds",
            "Of the engine for a batch.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gauge("resnext_queue_pictures", "Admitted, not answered yet.").set_function(
            lambda: gate.pictures
        )
        self._gauge("resnext_held_bytes", "Of uploads in memory.").set_function(lambda: gate.held)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
