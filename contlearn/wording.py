"""How numbers and measures are written for people."""

from __future__ import annotations

from typing import Final

__all__ = ["megabytes", "metric_name", "milliseconds", "number", "percent"]

_NAMES: Final = {
    "average_accuracy": "average accuracy",
    "backward_transfer": "backward transfer",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "f1": "F1",
    "word_accuracy": "word accuracy",
}


def metric_name(name: str) -> str:
    """Give the name of a measure as it is spoken."""
    return _NAMES.get(name, name)


def percent(value: float | None, *, sign: bool = False) -> str:
    """Write a share; a dash where there is none.

    Example:
        >>> percent(0.034), percent(0.034, sign=True), percent(None)
        ('3.4 %', '+3.4 %', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:+.1f} %" if sign else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Write a number with four digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"


def megabytes(value: float | None) -> str:
    """Write a size."""
    return "–" if value is None else f"{value / 1e6:.1f} MB"


def milliseconds(value: float) -> str:
    """Write a short time."""
    return f"{1000 * value:.2f} ms"
