"""OpenTelemetry traces, as an extra: one update is one trace, one request is one trace.

They are on where the standard variables name a collector (OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) and `contlearn[traces]` is installed; else nothing is imported
and a request pays for one comparison. Spans never hold a text or a label.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from typing import Any, Final

__all__ = ["CycleTraces", "Traces", "configured_traces", "traced_part"]

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# The parts of the request that is being answered: name, begin and end in nanoseconds.
_parts: ContextVar[list[tuple[str, int, int]] | None] = ContextVar("parts", default=None)
# Cycles begun and not ended in this process; more than a few are leftovers.
_MOST_CYCLES: Final = 100


class Traces:
    """Makes spans with the times that were measured, after the fact.

    Args:
        provider: A tracer provider of OpenTelemetry.
    """

    def __init__(self, provider: Any) -> None:
        self._api: Any = importlib.import_module("opentelemetry.trace")
        propagation: Any = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("contlearn")
        self.provider = provider

    def begin_request(self) -> None:
        """Begin to collect the parts of the request that this task answers."""
        _parts.set([])

    def end_request(
        self, *, route: str, method: str, code: int, begun: int, request_id: str, parent: str | None
    ) -> None:
        """Write the trace of a request.

        Args:
            route: The route's template.
            method: Of HTTP.
            code: Its status.
            begun: When it came, in nanoseconds since the epoch.
            request_id: As in the answer's header.
            parent: The client's `traceparent`, whose trace it then belongs to.
        """
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        span = self._tracer.start_span(
            f"{method} {route}",
            context=context,
            kind=self._api.SpanKind.SERVER,
            start_time=begun,
            attributes={
                "http.route": route,
                "http.request.method": method,
                "http.response.status_code": code,
                "contlearn.request_id": request_id,
            },
        )
        if code >= 500:
            span.set_status(self._api.StatusCode.ERROR)
        self._children(span, _parts.get() or ())
        span.end()
        _parts.set(None)

    def update(
        self, cycle: str, states: list[tuple[str, int]], ended: int, fields: Mapping[str, Any]
    ) -> None:
        """Write the trace of an update: one span a state, from its begin to the next one's."""
        begun = states[0][1]
        attributes = {f"contlearn.{k}": v for k, v in fields.items() if v is not None}
        span = self._tracer.start_span(
            "update", start_time=begun, attributes={"contlearn.cycle": cycle, **attributes}
        )
        if fields.get("outcome") == "failed":
            span.set_status(self._api.StatusCode.ERROR)
        ends = [at for _, at in states[1:]] + [ended]
        self._children(
            span, [(name, at, end) for (name, at), end in zip(states, ends, strict=True)]
        )
        span.end(ended)
        self.provider.force_flush(2_000)  # a program that ends with the update takes it along

    def _children(self, span: Any, parts: Any) -> None:
        inside = self._api.set_span_in_context(span)
        for name, begun, ended in parts:
            self._tracer.start_span(name, context=inside, start_time=begun).end(ended)


class CycleTraces:
    """Gathers the events of a cycle until it ends.

    Args:
        traces: Writes them.
    """

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._states: dict[str, list[tuple[str, int]]] = {}

    def hear(self, kind: str, at: datetime, fields: Mapping[str, Any]) -> None:
        """Take an event; one of another kind is none of its business."""
        cycle, moment = str(fields.get("cycle")), int(at.timestamp() * 1e9)
        if kind == "cycle-started":
            if len(self._states) >= _MOST_CYCLES:
                self._states.clear()
            self._states[cycle] = [("planned", moment)]
        elif kind == "cycle-state":
            self._states.setdefault(cycle, []).append((str(fields.get("state")), moment))
        elif kind == "cycle-ended":
            states = self._states.pop(cycle, None)
            if states:
                kept = {k: fields.get(k) for k in ("outcome", "version")}
                self._traces.update(cycle, states, moment, kept)


@contextlib.contextmanager
def traced_part(name: str) -> Iterator[None]:
    """Time a part of the request that is being answered; nothing where none is traced."""
    parts = _parts.get()
    if parts is None:
        yield
        return
    begun = time.time_ns()
    try:
        yield
    finally:
        parts.append((name, begun, time.time_ns()))


@cache
def configured_traces() -> Traces | None:
    """Give what writes traces to the collector of the environment; None without one."""
    if not any(os.environ.get(name) for name in _VARIABLES):
        return None
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        logging.getLogger("contlearn.telemetry").warning(
            "no traces: %s is not installed; pip install 'contlearn[traces]'", error.name
        )
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "contlearn")
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": name}))
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return Traces(provider)
