"""The serving process's own metrics, counted as things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contlearn.telemetry.measures import SERVER, TOP_LABELS, Measure
from contlearn.telemetry.metrics import build_info

__all__ = ["REJECTIONS", "Instruments", "ServerMetrics"]

# An exemplar's labels may have 128 characters in all, by OpenMetrics.
_EXEMPLAR_CHARACTERS: Final = 100
_SLOW_SECONDS: Final = 0.25
REJECTIONS: Final = ("queue_full", "too_large", "timeout", "not_ready", "invalid", "cancelled")


class Instruments:
    """All instruments of a server, made in the registry that is handed in; models share them.

    Args:
        registry: Where the metrics appear.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        makers = {"gauge": _gauge, "counter": _counter, "histogram": _histogram}
        self._of: dict[str, Any] = {
            measure.name: makers[measure.kind](registry, measure) for measure in SERVER
        }
        self.gauge("build_info").labels(*build_info()).set(1)
        for reason in ("ended", "silent"):  # 0 also where no process works for the server
            self.counter("workers_replaced_total").labels(reason)
        self._cache: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self._marked_at = -math.inf

    def gauge(self, name: str) -> Gauge:
        """Give a gauge by its short name."""
        found: Gauge = self._of[f"contlearn_{name}"]
        return found

    def counter(self, name: str) -> Counter:
        """Give a counter by its short name."""
        found: Counter = self._of[f"contlearn_{name}"]
        return found

    def histogram(self, name: str) -> Histogram:
        """Give a histogram by its short name."""
        found: Histogram = self._of[f"contlearn_{name}"]
        return found

    def request(
        self,
        model: str,
        route: str,
        *,
        method: str,
        code: int,
        seconds: float,
        request_id: str = "",
    ) -> None:
        """Count one answer. `route` is a template, never a path as it came in.

        Slow answers, and one a second of the others, leave their request id as an exemplar, where
        the scraper reads OpenMetrics.
        """
        key = (model, route, method, code)
        children = self._cache.get(key)
        if children is None:
            # Models, routes, methods and codes are few; an unknown method is counted as "other".
            children = (
                self.counter("http_requests_total").labels(model, route, method, str(code)),
                self.histogram("http_request_duration_seconds").labels(model, route),
            )
            self._cache[key] = children
        children[0].inc()
        now = time.monotonic()
        if request_id and (seconds >= _SLOW_SECONDS or now - self._marked_at >= 1.0):
            self._marked_at = now
            children[1].observe(seconds, {"request_id": request_id[:_EXEMPLAR_CHARACTERS]})
        else:
            children[1].observe(seconds)


class ServerMetrics:
    """The measures of one model.

    Args:
        instruments: Of the server; or a registry, for a server of one model.
        model: The value of the label `model`.
    """

    def __init__(self, instruments: Instruments | CollectorRegistry, model: str) -> None:
        if isinstance(instruments, CollectorRegistry):
            instruments = Instruments(instruments)
        self.instruments = instruments
        self.model = model
        self._version: str | None = None
        self._labels: dict[str, Counter] = {}
        own = (model,)
        gauge, counter = instruments.gauge, instruments.counter
        histogram = instruments.histogram
        self._champion = gauge("champion_info")
        self.ready = gauge("model_ready").labels(*own)
        self.version = gauge("model_version").labels(*own)
        self.rejected_version = gauge("model_rejected_version").labels(*own)
        self._loaded = gauge("model_loaded_timestamp_seconds")
        reloads = counter("reloads_total")
        self.reload_success = reloads.labels(model, "success")
        self.reload_failed = reloads.labels(model, "failed")
        self.reload_seconds = histogram("reload_duration_seconds").labels(*own)
        seconds = histogram("infer_duration_seconds")
        self.queue_seconds = seconds.labels(model, "queue")
        self.compute_seconds = seconds.labels(model, "compute")
        self.batch_rows = histogram("infer_batch_rows").labels(*own)
        self.queue_depth = gauge("infer_queue_depth").labels(*own)
        self.in_flight = gauge("infer_in_flight").labels(*own)
        self.rejected = _children(counter("infer_rejected_total"), model, REJECTIONS)
        self._predictions = counter("predictions_total")
        self._other = self._predictions.labels(model, "other")
        self.confidence = histogram("prediction_confidence_ratio").labels(*own)
        self.truncated = counter("inputs_truncated_total").labels(*own)
        self.unknown = counter("unknown_texts_total").labels(*own)
        log = counter("prediction_log_records_total")
        self.log_written = log.labels(model, "written")
        self.log_dropped = log.labels(model, "dropped")
        self.feedback = _children(
            counter("feedback_total"), model, ("accepted", "duplicate", "unknown", "refused")
        )
        self._roles = gauge("model_role_info")
        self._in_roles: dict[str, str] = {}
        self.canary = _children(counter("canary_requests_total"), model, ("answered", "failed"))
        self.canary_stops = _children(counter("canary_stops_total"), model, ("errors", "latency"))
        self.shadow = _children(
            counter("shadow_texts_total"), model, ("same", "different", "failed", "dropped")
        )

    def role(self, role: str, version: int | None) -> None:
        """Show which version has a role; the series of the former one goes."""
        before, now = self._in_roles.get(role), None if version is None else str(version)
        if before == now:
            return
        if before is not None:
            self._roles.remove(self.model, role, before)
            del self._in_roles[role]
        if now is not None:
            self._roles.labels(self.model, role, now).set(1)
            self._in_roles[role] = now

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

    def answered(self, label: str, number: int = 1) -> None:
        """Count predictions of a label."""
        self._labels.get(label, self._other).inc(number)


def _children(counter: Counter, model: str, outcomes: Sequence[str]) -> Mapping[str, Counter]:
    return {outcome: counter.labels(model, outcome) for outcome in outcomes}


def _gauge(registry: CollectorRegistry, measure: Measure) -> Gauge:
    return Gauge(measure.name, measure.meaning, measure.labels, registry=registry)


def _counter(registry: CollectorRegistry, measure: Measure) -> Counter:
    return Counter(measure.name, measure.meaning, measure.labels, registry=registry)


def _histogram(registry: CollectorRegistry, measure: Measure) -> Histogram:
    return Histogram(
        measure.name,
        measure.meaning,
        measure.labels,
        registry=registry,
        buckets=measure.buckets,
    )
