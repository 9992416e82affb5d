"""The serving process's own metrics, counted as things happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contlearn.telemetry.measures import TOP_LABELS, by_name
from contlearn.telemetry.metrics import build_info

__all__ = ["REJECTIONS", "ServerMetrics"]

REJECTIONS: Final = ("queue_full", "too_large", "timeout", "not_ready", "invalid", "cancelled")


class ServerMetrics:
    """The instruments of one server, made in the registry that is handed in.

    Args:
        registry: Where the metrics appear.
        model: The value of the label `model`.
    """

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self.model = model
        self._version: str | None = None
        self._labels: dict[str, Counter] = {}
        own = (model,)
        _gauge(registry, "build_info").labels(*build_info()).set(1)
        self._champion = _gauge(registry, "champion_info")
        self.ready = _gauge(registry, "model_ready").labels(*own)
        self.version = _gauge(registry, "model_version").labels(*own)
        self.rejected_version = _gauge(registry, "model_rejected_version").labels(*own)
        self._loaded = _gauge(registry, "model_loaded_timestamp_seconds")
        reloads = _counter(registry, "reloads_total")
        self.reload_success = reloads.labels(model, "success")
        self.reload_failed = reloads.labels(model, "failed")
        self.reload_seconds = _histogram(registry, "reload_duration_seconds").labels(*own)
        self._requests = _counter(registry, "http_requests_total")
        self._request_seconds = _histogram(registry, "http_request_duration_seconds")
        seconds = _histogram(registry, "infer_duration_seconds")
        self.queue_seconds = seconds.labels(model, "queue")
        self.compute_seconds = seconds.labels(model, "compute")
        self.batch_rows = _histogram(registry, "infer_batch_rows").labels(*own)
        self.queue_depth = _gauge(registry, "infer_queue_depth").labels(*own)
        self.in_flight = _gauge(registry, "infer_in_flight").labels(*own)
        rejected = _counter(registry, "infer_rejected_total")
        self.rejected: Mapping[str, Counter] = {
            reason: rejected.labels(model, reason) for reason in REJECTIONS
        }
        self._predictions = _counter(registry, "predictions_total")
        self._other = self._predictions.labels(model, "other")
        self.confidence = _histogram(registry, "prediction_confidence_ratio").labels(*own)
        self.truncated = _counter(registry, "inputs_truncated_total").labels(*own)
        log = _counter(registry, "prediction_log_records_total")
        self.log_written = log.labels(model, "written")
        self.log_dropped = log.labels(model, "dropped")
        feedback = _counter(registry, "feedback_total")
        self.feedback: Mapping[str, Counter] = {
            outcome: feedback.labels(model, outcome)
            for outcome in ("accepted", "duplicate", "unknown")
        }
        self._cache: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count one answer. `route` is a template, never a path as it came in."""
        key = (route, method, code)
        children = self._cache.get(key)
        if children is None:
            # Routes, known methods and codes are few; an unknown method is counted as "other".
            children = (
                self._requests.labels(route, method, str(code)),
                self._request_seconds.labels(route),
            )
            self._cache[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def loaded(self, version: int, labels: Sequence[str], at: float) -> None:
        """Show a new version, take the series of the old one away, and prepare its labels."""
        if self._version is not None:
            self._champion.remove(self.model, self._version)
        self._version = str(version)
        self._champion.labels(self.model, self._version).set(1)
        self.version.set(version)
        self.ready.set(1)
        self.rejected_version.set(0)
        self._loaded.labels(self.model).set(at)
        # Counters of labels seen before stay, so that rates never jump; new ones join up to the
        # bound, in the order the model learnt them.
        for label in labels:
            if len(self._labels) >= TOP_LABELS:
                break
            if label not in self._labels and label != "other":
                self._labels[label] = self._predictions.labels(self.model, label)

    def answered(self, label: str) -> None:
        """Count one prediction."""
        self._labels.get(label, self._other).inc()


def _gauge(registry: CollectorRegistry, name: str) -> Gauge:
    measure = by_name(f"contlearn_{name}")
    return Gauge(measure.name, measure.meaning, measure.labels, registry=registry)


def _counter(registry: CollectorRegistry, name: str) -> Counter:
    measure = by_name(f"contlearn_{name}")
    return Counter(measure.name, measure.meaning, measure.labels, registry=registry)


def _histogram(registry: CollectorRegistry, name: str) -> Histogram:
    measure = by_name(f"contlearn_{name}")
    return Histogram(
        measure.name,
        measure.meaning,
        measure.labels,
        registry=registry,
        buckets=measure.buckets,
    )
