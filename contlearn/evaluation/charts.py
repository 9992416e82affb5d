"""Small charts as inline SVG; colours come from the page's style, so that dark mode works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["heat_cell", "line_chart", "reliability_chart"]

_WIDTH: Final = 560
_HEIGHT: Final = 220
_LEFT: Final = 44
_BOTTOM: Final = 28
_TOP: Final = 14
_RIGHT: Final = 16


def heat_cell(value: float | None, text: str) -> str:
    """Make a table cell that is the darker the larger its value. Units: value 0 to 1."""
    if value is None:
        return "<td></td>"
    strength = 0.55 * min(max(value, 0.0), 1.0)
    return f'<td style="background: rgba(var(--heat), {strength:.2f})">{escape(text)}</td>'


def line_chart(series: Mapping[str, Sequence[float | None]], step: str) -> str:
    """Draw series of shares over steps; a gap where there is no value."""
    steps = max((len(values) for values in series.values()), default=0)
    styles = ("var(--mark)", "var(--bad)", "var(--good)")
    parts = [_frame()]
    for number, (name, values) in enumerate(series.items()):
        colour = styles[number % len(styles)]
        points = [
            (_x(i / max(steps - 1, 1)), _y(min(max(value, 0.0), 1.0)))
            for i, value in enumerate(values)
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        left = _LEFT + 8 + 150 * number
        parts.append(f'<rect x="{left}" y="0" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{left + 15}" y="9">{escape(name)}</text>')
    for i in range(0, steps, max(1, steps // 10)):
        x = _x(i / max(steps - 1, 1))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{i + 1}</text>')
    label = escape(f"{' and '.join(series)} after each {step}")
    return _svg(label, parts)


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw share right over confidence; on the diagonal confidences mean what they say."""
    rows = max(sum(item["rows"] for item in bins), 1)
    parts = [
        _frame(),
        (
            f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="var(--line)" '
            'stroke-dasharray="4 4"/>'
        ),
    ]
    for item in bins:
        if item["rows"]:
            radius = 3 + 12 * (item["rows"] / rows) ** 0.5
            parts.append(
                f'<circle cx="{_x(item["confidence"]):.1f}" cy="{_y(item["right"]):.1f}" '
                f'r="{radius:.1f}" fill="var(--mark)" fill-opacity="0.6">'
                f"<title>{item['rows']} rows: confidence {item['confidence']:.2f}, "
                f"right {item['right']:.2f}</title></circle>"
            )
    parts += [
        f'<text x="{_x(share):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{share:.0%}</text>'
        for share in (0.0, 0.5, 1.0)
    ]
    return _svg("share right over confidence", parts)


def _frame() -> str:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        lines.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" '
            'stroke="var(--line)"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    return "".join(lines)


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _x(share: float) -> float:
    return _LEFT + 8 + share * (_WIDTH - _LEFT - _RIGHT - 16)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)
