"""The overview's charts as inline SVG; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from contlearn.pages.charts import bar_cell

__all__ = ["axis_number", "bars", "interval_bar", "looks_chart", "stacked", "tick_values"]

# Narrow enough that a phone shows it whole, with letters that can be read.
_WIDTH: Final = 560
_HEIGHT: Final = 220
_LEFT: Final = 64
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 26


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
    room = (_WIDTH - _LEFT - _RIGHT) / max(len(columns), 1)
    width = min(40.0, room * 0.8)
    parts = [_grid([(value / most, axis_number(value)) for value in ticks])]
    for place, (name, values) in enumerate(columns):
        x = _LEFT + room * (place + 0.5) - width / 2
        below = 0.0
        for number, value in enumerate(values):
            if not value:
                continue
            top, foot = _y((below + value) / most), _y(below / most)
            below += value
            parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{foot - top:.1f}" '
                f'fill="var(--c{number % 8})"><title>{escape(name)}: {escape(names[number])} '
                f"{axis_number(value)} {unit}</title></rect>"
            )
    for place in sorted({0, len(columns) // 2, len(columns) - 1}):
        x = _LEFT + room * (place + 0.5)
        anchor = "start" if place == 0 and len(columns) > 2 else "middle"
        anchor = "end" if place == len(columns) - 1 and len(columns) > 2 else anchor
        x = {"start": float(_LEFT), "end": float(_WIDTH - _RIGHT)}.get(anchor, x)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{escape(columns[place][0].partition(' ')[0])}</text>"
        )
    used = [n for n in range(len(names)) if any(values[n] for _, values in columns)]
    legend = _legend([(names[n], f"var(--c{n % 8})") for n in used])
    return legend + _svg(f"{unit} by {', '.join(names)}", _WIDTH, _HEIGHT, parts)


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
    return _svg("interval of the accuracy, and the accuracy on held-out rows", 420, 28, parts)


def looks_chart(looks: Sequence[Mapping[str, Any]]) -> str:
    """Draw estimated and measured accuracy over the looks, with the alarms."""
    count = max(len(looks) - 1, 1)

    def x(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / count

    parts = [_grid([(share, f"{share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)])]
    for place, item in enumerate(looks):
        if item.get("detected"):
            parts.append(
                f'<line x1="{x(place):.1f}" y1="{_TOP}" x2="{x(place):.1f}" '
                f'y2="{_HEIGHT - _BOTTOM}" stroke="var(--bad)" stroke-opacity="0.35" '
                'stroke-width="3"/>'
            )
    for run in _runs(looks, "estimated"):
        upper = [(x(i), _y(v[2])) for i, v in run]
        lower = [(x(i), _y(v[1])) for i, v in reversed(run)]
        shape = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *lower])
        parts.append(f'<polygon points="{shape}" fill="var(--mark)" fill-opacity="0.2"/>')
        line = " ".join(f"{x(i):.1f},{_y(v[0]):.1f}" for i, v in run)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="var(--mark)" stroke-width="2"/>'
        )
    for run in _runs(looks, "measured"):
        parts += [
            f'<circle cx="{x(i):.1f}" cy="{_y(v[0]):.1f}" r="3" fill="var(--c1)"/>' for i, v in run
        ]
    held = [
        f"{x(i):.1f},{_y(item['reference']):.1f}"
        for i, item in enumerate(looks)
        if item.get("reference") is not None
    ]
    parts.append(
        f'<polyline points="{" ".join(held)}" fill="none" stroke="var(--soft)" '
        'stroke-dasharray="5 4"/>'
    )
    for place, anchor in ((0, "start"), (len(looks) - 1, "end")) if looks else ():
        moment = escape(str(looks[place].get("at", ""))[:16].replace("T", " "))
        parts.append(
            f'<text x="{x(place):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{moment}</text>'
        )
    legend = _legend(
        [
            ("estimated", "var(--mark)"),
            ("measured", "var(--c1)"),
            ("held-out", "var(--soft)"),
            ("drift alarm", "var(--bad)"),
        ]
    )
    return legend + _svg("accuracy in production over the looks", _WIDTH, _HEIGHT, parts)


def _runs(
    looks: Sequence[Mapping[str, Any]], name: str
) -> list[list[tuple[int, tuple[float, float, float]]]]:
    """Split into runs without gaps, each value with its interval."""
    runs: list[list[tuple[int, tuple[float, float, float]]]] = [[]]
    for place, item in enumerate(looks):
        values: Any = item.get(name) or ()
        if len(values) == 3 and all(isinstance(v, int | float) for v in values):
            runs[-1].append((place, (float(values[0]), float(values[1]), float(values[2]))))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _grid(ticks: Sequence[tuple[float, str]]) -> str:
    """Draw a line for each tick: its share of the height, and what stands beside it."""
    lines = []
    for share, shown in ticks:
        y = _y(share)
        lines.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" '
            f'stroke="var(--line)"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" '
            f'text-anchor="end">{shown}</text>'
        )
    return "".join(lines)


def _legend(items: Sequence[tuple[str, str]]) -> str:
    """Write names and colours above a chart, where they wrap on a phone."""
    parts = [f'<span><i style="color:{colour}"></i>{escape(name)}</span>' for name, colour in items]
    return f'<div class="legend">{"".join(parts)}</div>'


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (_HEIGHT - _BOTTOM - _TOP)


def _svg(label: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
