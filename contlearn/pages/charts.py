"""Charts as inline SVG, and the kit they are drawn with.

Colours are variables of the page's style, so that dark mode works.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, TypeVar

__all__ = [
    "COLOURS",
    "Plot",
    "heat_map",
    "legend",
    "line_chart",
    "reliability_chart",
    "runs",
    "share_ticks",
    "svg",
]

# Of the style sheet, in the order that series take them.
COLOURS: Final = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
_TICK: Final = 0.25
_CELL: Final = 12
_MAP_PIXELS: Final = 620

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The room of a chart: shares from `low` to 1 go up, steps from 0 to 1 to the right.

    As it is, it is narrow enough that a phone shows it whole, with letters that can be read.
    """

    width: int = 560
    height: int = 230
    left: int = 52
    right: int = 12
    top: int = 10
    bottom: int = 36
    # Between the frame and the first and the last step.
    inset: int = 8
    low: float = 0.0

    def x(self, step: float) -> float:
        """Give the place of a step."""
        room = self.width - self.left - self.right - 2 * self.inset
        return self.left + self.inset + step * room

    def y(self, share: float) -> float:
        """Give the place of a share; one beyond the frame is drawn on it."""
        part = (min(max(share, self.low), 1.0) - self.low) / (1.0 - self.low)
        return self.height - self.bottom - part * (self.height - self.bottom - self.top)

    def grid(self, ticks: Sequence[tuple[float, str]]) -> str:
        """Draw a line for each tick: its share, and what stands beside it."""
        lines = []
        for share, shown in ticks:
            y = self.y(share)
            lines.append(
                f'<line x1="{self.left}" y1="{y:.1f}" x2="{self.width - self.right}" y2="{y:.1f}" '
                f'class="grid"/><text x="{self.left - 6}" y="{y + 4:.1f}" '
                f'text-anchor="end">{shown}</text>'
            )
        return "".join(lines)

    def below(self, x: float, text: str, *, up: int, anchor: str = "middle") -> str:
        """Write a text below the frame, so many pixels above the end of the chart."""
        return (
            f'<text x="{x:.1f}" y="{self.height - up}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def title(self, text: str) -> str:
        """Write below all else what the steps are."""
        return self.below((self.left + self.width - self.right) / 2, text, up=4)

    def svg(self, label: str, parts: Sequence[str]) -> str:
        """Put the chart together."""
        return svg(label, parts, self.width, self.height)


def svg(
    label: str,
    parts: Sequence[str],
    width: int,
    height: int,
    *,
    pixels: tuple[int, int] | None = None,
) -> str:
    """Put a drawing together.

    Args:
        label: What it is, for those who do not see it.
        parts: Its elements.
        width: Of what is drawn.
        height: Likewise.
        pixels: Width and height as it is shown, where they differ.
    """
    shown = pixels or (width, height)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{shown[0]}" height="{shown[1]}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def legend(items: Sequence[tuple[str, str]]) -> str:
    """Write names and colours above a chart, where they wrap on a phone."""
    parts = [
        f'<span><i style="color:var(--{colour})"></i>{escape(name)}</span>'
        for name, colour in items
    ]
    return f'<div class="legend">{"".join(parts)}</div>'


def runs(values: Sequence[Value | None]) -> list[list[tuple[int, Value]]]:
    """Cut a series at its gaps, each value with its place."""
    found: list[list[tuple[int, Value]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((place, value))
    return [run for run in found if run]


def share_ticks(low: float = 0.0) -> list[tuple[float, str]]:
    """Give the ticks of an axis of shares, from `low` to 1."""
    number = round((1.0 - low) / _TICK)
    shares = [low + (1.0 - low) * tick / number for tick in range(number + 1)]
    return [(share, f"{share:.0%}") for share in shares]


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
    wide = min(_MAP_PIXELS, max(width, 160))
    pixels = wide, round(wide * height / max(width, 1))
    return svg(label, parts, width, height, pixels=pixels)


def line_chart(series: Mapping[str, Sequence[float | None]], step: str) -> str:
    """Draw series of shares over steps, with a legend above; a gap where there is no value."""
    steps = max((len(values) for values in series.values()), default=0)
    known = [value for values in series.values() for value in values if value is not None]
    least = min(known, default=0.0)
    # A hair below zero is drawn on the line: an axis for it would say more than it means.
    plot = Plot(low=-_TICK * math.ceil(-least / _TICK) if least < -0.02 else 0.0)
    parts = [plot.grid(share_ticks(plot.low))]
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(series)}
    for name, values in series.items():
        colour = colours[name]
        for run in runs(values):
            points = [(plot.x(i / max(steps - 1, 1)), plot.y(value)) for i, value in run]
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
        parts.append(plot.below(plot.x(i / max(steps - 1, 1)), str(i + 1), up=20))
    parts.append(plot.title(f"after {step}"))
    return legend(list(colours.items())) + plot.svg(f"{', '.join(series)} after each {step}", parts)


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw share right over confidence; on the diagonal confidences mean what they say."""
    rows = max(sum(item["rows"] for item in bins), 1)
    plot = Plot()
    ends = f'x1="{plot.x(0)}" y1="{plot.y(0)}" x2="{plot.x(1)}" y2="{plot.y(1)}"'
    parts = [plot.grid(share_ticks()), f'<line {ends} class="diagonal"/>']
    width = (plot.x(1) - plot.x(0)) / max(len(bins), 1)
    for place, item in enumerate(bins):
        if not item["rows"]:
            continue
        share = item["rows"] / rows
        left = plot.x(0) + place * width
        says = (
            f"{item['rows']} rows: confidence {100 * item['confidence']:.1f} %, "
            f"right {100 * item['right']:.1f} %"
        )
        # The bar says how many rows there are, the dot how many of them are right.
        parts.append(
            f'<rect x="{left + 2:.1f}" y="{plot.y(share):.1f}" width="{width - 4:.1f}" '
            f'height="{plot.y(0) - plot.y(share):.1f}" class="count"><title>{says}</title></rect>'
        )
        parts.append(
            f'<circle cx="{plot.x(item["confidence"]):.1f}" cy="{plot.y(item["right"]):.1f}" r="5" '
            f'class="dot c0"><title>{says}</title></circle>'
        )
    parts += [plot.below(plot.x(share), shown, up=20) for share, shown in share_ticks()]
    parts.append(plot.title("confidence"))
    names = legend([("share right", "c0"), ("share of rows", "grey")])
    return names + plot.svg("share right over confidence", parts)
