"""How numbers and measures are written for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contlearn.types import Metric

__all__ = [
    "OVER_EXPERIENCES",
    "Measures",
    "amount",
    "best_words",
    "first_line",
    "megabytes",
    "metric_name",
    "milliseconds",
    "moment",
    "number",
    "percent",
    "printable",
    "quoted",
    "size",
    "span",
]

# Measures of the accuracy matrix: they are in the unit of the task's own.
OVER_EXPERIENCES: Final = ("average_accuracy", "forgetting", "backward_transfer")
_NAMES: Final = {"f1": "F1", "macro_f1": "macro F1", "micro_f1": "micro F1"}
_AVERAGE: Final = "average_accuracy"
_PRINTED: Final = 2_000


def metric_name(name: str, primary: str = "accuracy") -> str:
    """Give the name of a measure as it is spoken.

    Args:
        name: Its name in JSON.
        primary: The measure that fills the accuracy matrix, which is the task's: `average_accuracy`
            is its mean over experiences, whichever it is.
    Example:
        >>> metric_name("average_accuracy"), metric_name("average_accuracy", "f1")
        ('average accuracy', 'average F1')
    """
    if name == _AVERAGE:
        return f"average {metric_name(primary)}"
    return _NAMES.get(name, name.replace("_", " "))


def percent(value: float | None, *, sign: bool = False) -> str:
    """Write a share; a dash where there is none.

    Example:
        >>> percent(0.034), percent(0.034, sign=True), percent(None)
        ('3.4 %', '+3.4 %', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:+.1f} %" if sign else f"{100 * value:.1f} %"


def amount(value: float | None, metric: Metric | None = None, *, sign: bool = False) -> str:
    """Write a value of a measure: a share in percent, anything else with its unit.

    Example:
        >>> amount(0.034), amount(0.25, Metric(name="mae", unit="points"), sign=True)
        ('3.4 %', '+0.25 points')
    """
    if metric is None or not metric.unit or value is None:
        return percent(value, sign=sign)
    return f"{'+' if sign and value >= 0 else ''}{number(value)} {metric.unit}"


@dataclass(frozen=True, slots=True)
class Measures:
    """How the measures of a result are called and written.

    Args:
        primary: The measure that fills the accuracy matrix.
        unlike: Those that are no shares of which more is better, by their names.
    """

    primary: str = "accuracy"
    unlike: Mapping[str, Metric] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Measures:
        """Read what a result says with `primary_metric` and `measures`."""
        unlike = value.get("measures") or {}
        return cls(
            str(value.get("primary_metric") or "accuracy"),
            {name: Metric(name=name, **what) for name, what in unlike.items()},
        )

    def name(self, name: str) -> str:
        """Give the name of a measure as it is spoken."""
        return metric_name(name, self.primary)

    def metric(self, name: str) -> Metric | None:
        """Give what a measure is, where it is no share."""
        return self.unlike.get(self.primary if name in OVER_EXPERIENCES else name)

    def shown(self, name: str, value: float | None, *, sign: bool = False) -> str:
        """Write a value of a measure."""
        return amount(value, self.metric(name), sign=sign)


def best_words(champion: Mapping[str, Any], measures: Measures) -> str:
    """Say how the champion compares with the best proven version; nothing where it is that itself.

    Args:
        champion: As `status` gives it.
        measures: What is known of the task's metrics.
    """
    best = champion["best"]
    told, far = f"the best proven version {best['version']}", best["difference"]
    if best["version"] == champion["version"]:
        return ""
    if far is None:
        return f"not compared with {told}"
    if far == 0.0:
        return f"as good as {told} on {best['rows']:,} old held-out rows"
    how = "better" if far > 0.0 else "worse"
    return (
        f"{measures.shown(best['metric'], abs(far))} {how} in {measures.name(best['metric'])} than "
        f"{told} on {best['rows']:,} old held-out rows"
    )


def number(value: float | None) -> str:
    """Write a number as people do, with four digits; a dash where there is none.

    Example:
        >>> number(48_000_000), number(0.12345), number(1200.5), number(0.00003)
        ('48,000,000', '0.1235', '1,200', '0.00003')
    """
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    short = f"{value:.4g}"
    return f"{value:.8f}".rstrip("0").rstrip(".") if "e" in short else short


def megabytes(value: float | None) -> str:
    """Write the size of a file."""
    return "–" if value is None else f"{value / 1e6:.1f} MB"


def milliseconds(value: float) -> str:
    """Write a short time."""
    return f"{1000 * value:.2f} ms"


def size(value: float) -> str:
    """Write how much of a disk something takes.

    Example:
        >>> size(48_000_000), size(2_000_000_000)
        ('48 MB', '2.0 GB')
    """
    return f"{value / 1e9:,.1f} GB" if value >= 1e9 else f"{value / 1e6:,.0f} MB"


def moment(text: object) -> str:
    """Write an ISO moment to the minute, as people read it; a dash where there is none.

    Example:
        >>> moment("2030-01-02T03:04:05+00:00"), moment(None)
        ('2030-01-02 03:04', '–')
    """
    return str(text)[:16].replace("T", " ") if text else "–"


def span(seconds: float) -> str:
    """Say a span of time as people do.

    Example:
        >>> span(42), span(250), span(7500), span(10_800), span(200_000)
        ('42 s', '4 min', '2.1 h', '3 h', '2.3 d')
    """
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    long, unit = (seconds / 3600, "h") if seconds < 172_800 else (seconds / 86_400, "d")
    return f"{long:.1f}".removesuffix(".0") + f" {unit}"


def quoted(text: str, limit: int) -> str:
    r"""Show a text in quotes, cut to a length; what cannot be seen is escaped, once.

    Example:
        >>> quoted("\ufeffrefund", 40), quoted("a" * 50, 3)
        ("'\\ufeffrefund'", "'aaa…'")
    """
    return repr(text[:limit] + ("…" if len(text) > limit else ""))


def printable(text: str, limit: int = _PRINTED) -> str:
    r"""Show a text with its control characters escaped, cut to a length.

    Example:
        >>> printable("a\x1b[2J")
        'a\\x1b[2J'
    """
    cut = text[:limit]
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut
    )
    return shown + ("…" if len(text) > limit else "")


def first_line(error: BaseException) -> str:
    """Give the first line of what a library's error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
