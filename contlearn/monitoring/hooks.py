"""The built-in drift detectors, registered through the hook that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_detectors() -> list[type]:
    """Give the detector classes; numpy comes with them, so they are imported when asked for."""
    from contlearn.monitoring.drift_check import DETECTORS

    return list(DETECTORS)
