"""Small charts as inline SVG; colours come from the page's style, so that dark mode works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["bar_cell", "heat_cell", "heat_map", "line_chart", "reliability_chart"]

_WIDTH: Final = 560
_HEIGHT: Final = 230
_LEFT: Final = 52
_BOTTOM: Final = 36
_TOP: Final = 10
_RIGHT: Final = 12
_TICK: Final = 0.25
# Class names of the style sheet, in the order that series take them.
_COLOURS: Final = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
_CELL: Final = 12
_MAP_PIXELS: Final = 620


def heat_cell(value: float | None, text: str, note: str = "") -> str:
    """Make a table cell that is the darker the larger its value. Units: value 0 to 1."""
    if value is None:
        return "<td></td>"
    strength = 0.6 * min(max(value, 0.0), 1.0) ** 2
    more = f' <span class="bad small">{escape(note)}</span>' if note else ""
    return f'<td style="background:rgba(var(--heat),{strength:.2f})">{escape(text)}{more}</td>'


def bar_cell(share: float, text: str) -> str:
    """Make a table cell with a bar behind its number. Units: share 0 to 1."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<td class="bar"><i style="width:{width:.1f}%"></i><b>{escape(text)}</b></td>'


def heat_map(
    matrix: Sequence[Sequence[float | None]],
    titles: Sequence[Sequence[str]],
    *,
    label: str,
    wrong: bool = False,
) -> str:
    """Draw a matrix too large for a table; each cell says what it is when it is pointed at.

    Args:
        matrix: Shares; cells of 0 and missing ones stay empty.
        titles: What each cell says.
        label: What the whole is, for those who do not see it.
        wrong: Colour cells off the diagonal as mistakes.
    """
    rows, columns = len(matrix), max((len(row) for row in matrix), default=0)
    width, height = columns * _CELL, rows * _CELL
    parts = [f'<rect width="{width}" height="{height}" class="back"/>']
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if value:
                style = "bad" if wrong and i != j else "heat"
                strength = 0.25 + 0.75 * min(value, 1.0)
                parts.append(
                    f'<rect x="{j * _CELL}" y="{i * _CELL}" width="{_CELL}" height="{_CELL}" '
                    f'class="fill-{style}" fill-opacity="{strength:.2f}">'
                    f"<title>{escape(titles[i][j])}</title></rect>"
                )
    pixels = min(_MAP_PIXELS, max(width, 160))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{pixels}" '
        f'height="{round(pixels * height / max(width, 1))}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def line_chart(series: Mapping[str, Sequence[float | None]], step: str) -> str:
    """Draw series of shares over steps, with a legend above; a gap where there is no value."""
    steps = max((len(values) for values in series.values()), default=0)
    known = [value for values in series.values() for value in values if value is not None]
    least = min(known, default=0.0)
    # A hair below zero is drawn on the line: an axis for it would say more than it means.
    low = -_TICK * math.ceil(-least / _TICK) if least < -0.02 else 0.0
    parts = [_frame(low)]
    legend = []
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        legend.append(f'<span><i class="{colour}"></i>{escape(name)}</span>')
        for run in _runs(values):
            points = [(_x(i / max(steps - 1, 1)), _y(max(value, low), low)) for i, value in run]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" class="line {colour}"/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot {colour}">'
                f"<title>{escape(name)}, {escape(step)} {i + 1}: {100 * value:.1f} %</title>"
                "</circle>"
                for (x, y), (i, value) in zip(points, run, strict=True)
            ]
    every = max(1, math.ceil(steps / 12))
    for i in range(0, steps, every):
        x = _x(i / max(steps - 1, 1))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{i + 1}</text>')
    parts.append(_below(f"after {step}"))
    label = escape(f"{', '.join(series)} after each {step}")
    return f'<div class="legend">{"".join(legend)}</div>' + _svg(label, parts)


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw share right over confidence; on the diagonal confidences mean what they say."""
    rows = max(sum(item["rows"] for item in bins), 1)
    parts = [
        _frame(0.0),
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" class="diagonal"/>',
    ]
    width = (_x(1) - _x(0)) / max(len(bins), 1)
    for place, item in enumerate(bins):
        if not item["rows"]:
            continue
        share = item["rows"] / rows
        left = _x(0) + place * width
        says = (
            f"{item['rows']} rows: confidence {100 * item['confidence']:.1f} %, "
            f"right {100 * item['right']:.1f} %"
        )
        # The bar says how many rows there are, the dot how many of them are right.
        parts.append(
            f'<rect x="{left + 2:.1f}" y="{_y(share):.1f}" width="{width - 4:.1f}" '
            f'height="{_y(0) - _y(share):.1f}" class="count"><title>{says}</title></rect>'
        )
        parts.append(
            f'<circle cx="{_x(item["confidence"]):.1f}" cy="{_y(item["right"]):.1f}" r="5" '
            f'class="dot c0"><title>{says}</title></circle>'
        )
    parts += [
        f'<text x="{_x(share):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{share:.0%}</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(_below("confidence"))
    legend = (
        '<div class="legend"><span><i class="c0"></i>share right</span>'
        '<span><i class="grey"></i>share of rows</span></div>'
    )
    return legend + _svg("share right over confidence", parts)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Cut a series at its gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]


def _frame(low: float) -> str:
    lines = []
    ticks = round((1.0 - low) / _TICK)
    for tick in range(ticks + 1):
        share = low + (1.0 - low) * tick / ticks
        y = _y(share, low)
        lines.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    return "".join(lines)


def _below(text: str) -> str:
    x = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'<text x="{x:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(text)}</text>'


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _x(share: float) -> float:
    return _LEFT + 8 + share * (_WIDTH - _LEFT - _RIGHT - 16)


def _y(share: float, low: float = 0.0) -> float:
    part = (share - low) / (1.0 - low)
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _BOTTOM - _TOP)
