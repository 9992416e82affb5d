"""The built-in drift detectors, and the observer that turns a cycle's events into a trace."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from contlearn.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from contlearn.telemetry.traces import CycleTraces
    from contlearn.types import Event


@hookimpl
def contlearn_register_detectors() -> list[type]:
    """Give the detector classes; numpy comes with them, so they are imported when asked for."""
    from contlearn.monitoring.drift_check import DETECTORS

    return list(DETECTORS)


@hookimpl
def contlearn_on_event(event: Event) -> None:
    """Hand the events of cycles to the trace, where traces are on."""
    if event.kind.startswith("cycle-"):
        traces = _cycle_traces()
        if traces is not None:
            traces.hear(event.kind, event.at, event.fields)


@cache
def _cycle_traces() -> CycleTraces | None:
    from contlearn.telemetry.traces import CycleTraces, configured_traces

    traces = configured_traces()
    return None if traces is None else CycleTraces(traces)
