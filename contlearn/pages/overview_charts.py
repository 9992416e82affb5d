"""The overview's charts as inline SVG; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from contlearn.pages.charts import COLOURS, Plot, legend, runs, share_ticks, svg
from contlearn.pages.tables import bar_cell
from contlearn.wording import moment

__all__ = ["axis_number", "bars", "interval_bar", "looks_chart", "stacked", "tick_values"]

_PLOT: Final = Plot(height=220, left=64, top=12, bottom=26, inset=0)


def bars(items: Sequence[tuple[str, int]]) -> str:
    """Write one line for each name, with a bar behind its number."""
    most = max((number for _, number in items), default=1) or 1
    rows = [
        f'<tr><td title="{escape(name)}"><bdi>{escape(name)}</bdi></td>'
        f"{bar_cell(number / most, f'{number:,}')}</tr>"
        for name, number in items
    ]
    return f'<table class="bars"><tbody>{"".join(rows)}</tbody></table>'


def stacked(columns: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str) -> str:
    """Draw one column of stacked parts for each step.

    Args:
        columns: Name and parts of each; the first word of a name stands below the axis.
        names: Of the parts.
        unit: What is counted.
    """
    ticks = tick_values(max((sum(values) for _, values in columns), default=0))
    most = ticks[-1]
    room = (_PLOT.x(1) - _PLOT.x(0)) / max(len(columns), 1)
    width = min(40.0, room * 0.8)
    parts = [_PLOT.grid([(value / most, axis_number(value)) for value in ticks])]
    for place, (name, values) in enumerate(columns):
        x = _PLOT.x(0) + room * (place + 0.5) - width / 2
        below = 0.0
        for number, value in enumerate(values):
            if not value:
                continue
            top, foot = _PLOT.y((below + value) / most), _PLOT.y(below / most)
            below += value
            parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{foot - top:.1f}" '
                f'fill="var(--{COLOURS[number % len(COLOURS)]})"><title>{escape(name)}: '
                f"{escape(names[number])} "
                f"{axis_number(value)} {unit}</title></rect>"
            )
    for place in sorted({0, len(columns) // 2, len(columns) - 1}):
        x = _PLOT.x(0) + room * (place + 0.5)
        anchor = "start" if place == 0 and len(columns) > 2 else "middle"
        anchor = "end" if place == len(columns) - 1 and len(columns) > 2 else anchor
        x = {"start": _PLOT.x(0), "end": _PLOT.x(1)}.get(anchor, x)
        parts.append(_PLOT.below(x, columns[place][0].partition(" ")[0], up=8, anchor=anchor))
    used = [n for n in range(len(names)) if any(values[n] for _, values in columns)]
    colours = legend([(names[n], COLOURS[n % len(COLOURS)]) for n in used])
    return colours + _PLOT.svg(f"{unit} by {', '.join(names)}", parts)


def tick_values(most: float) -> list[float]:
    """Give round values for an axis from 0 to at least `most`: three to six of them.

    Example:
        >>> tick_values(47_813)
        [0.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0]
        >>> tick_values(0)
        [0.0, 0.5, 1.0]
    """
    if most <= 0:
        return [0.0, 0.5, 1.0]
    power = 10.0 ** math.floor(math.log10(most / 5))
    step = next(power * by for by in (1, 2, 5, 10) if 5 * power * by >= most)
    return [step * n for n in range(math.ceil(most / step - 1e-9) + 1)]


def axis_number(value: float) -> str:
    """Write a number as people do, short enough for an axis.

    Example:
        >>> axis_number(48_000), axis_number(2_500_000), axis_number(0.5), axis_number(0)
        ('48,000', '2.5 M', '0.5', '0')
    """
    if value >= 1e6:
        return f"{value / 1e6:,.4g} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interval_bar(item: Mapping[str, Any]) -> str:
    """Draw an interval from 0 to 1 with its point, and what it is held against."""

    def x(share: float) -> float:
        return 8 + share * 400

    low, high, value = x(item["low"]), x(item["high"]), x(item["value"])
    parts = [
        f'<line x1="{x(0)}" y1="14" x2="{x(1)}" y2="14" stroke="var(--line)" stroke-width="6"/>',
        (
            f'<line x1="{low:.1f}" y1="14" x2="{max(high, low + 1):.1f}" y2="14" '
            'stroke="var(--mark)" stroke-width="6"/>'
        ),
        f'<circle cx="{value:.1f}" cy="14" r="6" fill="var(--mark)"/>',
    ]
    if item.get("reference") is not None:
        at = x(item["reference"])
        parts.append(
            f'<line x1="{at:.1f}" y1="3" x2="{at:.1f}" y2="25" stroke="var(--text)" '
            'stroke-width="2"><title>on held-out rows</title></line>'
        )
    return svg("interval of the accuracy, and the accuracy on held-out rows", parts, 420, 28)


def looks_chart(looks: Sequence[Mapping[str, Any]]) -> str:
    """Draw estimated and measured accuracy over the looks, with the alarms."""
    count = max(len(looks) - 1, 1)

    def point(place: int, share: float) -> str:
        return f"{_PLOT.x(place / count):.1f},{_PLOT.y(share):.1f}"

    parts = [_PLOT.grid(share_ticks())]
    for place, item in enumerate(looks):
        if item.get("detected"):
            x = _PLOT.x(place / count)
            parts.append(
                f'<line x1="{x:.1f}" y1="{_PLOT.y(1)}" x2="{x:.1f}" y2="{_PLOT.y(0)}" '
                'stroke="var(--bad)" stroke-opacity="0.35" stroke-width="3"/>'
            )
    for run in runs([_interval(item, "estimated") for item in looks]):
        upper = [point(i, v[2]) for i, v in run]
        lower = [point(i, v[1]) for i, v in reversed(run)]
        shape = " ".join([*upper, *lower])
        parts.append(f'<polygon points="{shape}" fill="var(--mark)" fill-opacity="0.2"/>')
        line = " ".join(point(i, v[0]) for i, v in run)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="var(--mark)" stroke-width="2"/>'
        )
    for run in runs([_interval(item, "measured") for item in looks]):
        parts += [
            f'<circle cx="{_PLOT.x(i / count):.1f}" cy="{_PLOT.y(v[0]):.1f}" r="3" '
            'fill="var(--c1)"/>'
            for i, v in run
        ]
    held = [
        point(i, item["reference"])
        for i, item in enumerate(looks)
        if item.get("reference") is not None
    ]
    parts.append(
        f'<polyline points="{" ".join(held)}" fill="none" stroke="var(--soft)" '
        'stroke-dasharray="5 4"/>'
    )
    for place, anchor in ((0, "start"), (len(looks) - 1, "end")) if looks else ():
        minute = moment(looks[place].get("at"))
        parts.append(_PLOT.below(_PLOT.x(place / count), minute, up=8, anchor=anchor))
    colours = legend(
        [("estimated", "mark"), ("measured", "c1"), ("held-out", "soft"), ("drift alarm", "bad")]
    )
    return colours + _PLOT.svg("accuracy in production over the looks", parts)


def _interval(look: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
    """Give an accuracy of a look with its interval; None where it has none."""
    values: Any = look.get(name) or ()
    if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        return None
    return float(values[0]), float(values[1]), float(values[2])
