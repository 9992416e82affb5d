"""index.html of a comparison: one file, no script, no network, no text of a record."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from contlearn.benchmark.measures import FIGURES, titles
from contlearn.benchmark.result import BenchmarkResult, Summary, cell
from contlearn.pages.style import html_page
from contlearn.wording import metric_name
from contlearn.workspace import write_bytes_atomic

__all__ = ["write_page"]

# Told apart by people who do not see all colours, on white and on black; after Okabe and Ito, 2008.
_COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#9b6bdf",
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 280, 40, 28


def write_page(result: BenchmarkResult, path: Path) -> None:
    """Write the page."""
    heads = "".join(f"<th>{escape(title)}</th>" for title in titles(result.primary_metric))
    rows = "".join(
        f"<tr><td>{escape(s.name)}{' <span class=soft>reference</span>' if s.is_reference else ''}"
        f"</td>{''.join(f'<td>{cell(s, figure)}</td>' for figure in FIGURES)}"
        f"<td>{s.seeds}</td></tr>"
        for s in result.summaries
    )
    average = metric_name("average_accuracy", result.primary_metric)
    chosen = escape(result.recommendation or "none")
    reason = escape(result.reason[:1].upper() + result.reason[1:])
    body = f"""<h1>Strategies compared</h1>
<p class="soft">{len(result.steps)} experiences in the order of time. Choices were made on
development rows, figures are of test rows, in percent; means over seeds.</p>
<div class="card"><b>Recommended: {chosen}</b><br>{reason}</div>
<h2>{escape(average[:1].upper() + average[1:])} on what was seen, after each experience</h2>
{_curves(result.summaries, average)}
<h2>Figures</h2><div class="wide"><table><tr><th>strategy</th>{heads}<th>seeds</th></tr>{rows}
</table></div>
<h2>Experiences</h2><ol>{"".join(f"<li>{escape(name)}</li>" for name in result.steps)}</ol>"""
    write_bytes_atomic(path, html_page("Strategies compared", body).encode())


def _curves(summaries: Sequence[Summary], average: str) -> str:
    """Draw one line a strategy, a dashed one for each reference, which has an end only."""
    steps = max((len(s.curve) for s in summaries if s.curve), default=1)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * step / max(steps - 1, 1)

    def y(value: float) -> float:
        return 8 + (_HEIGHT - _BOTTOM - 8) * (1 - min(max(value, 0.0), 1.0))

    parts = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(v):.1f}" y2="{y(v):.1f}" '
        f'stroke="var(--line)"/><text x="4" y="{y(v) + 4:.1f}">{v:.0%}</text>'
        for v in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts += [
        f'<text x="{x(i):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{i + 1}</text>'
        for i in range(0, steps, max(1, steps // 10))
    ]
    legend = []
    for number, summary in enumerate(summaries):
        colour = _COLOURS[number % len(_COLOURS)]
        value = summary.means["average_accuracy"] or 0.0
        name = f"{escape(summary.name)} ({100 * value:.1f} %)"
        if summary.curve:
            points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(summary.curve))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2">'
                f"<title>{name}</title></polyline>"
            )
        else:
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="5 4">'
                f"<title>{name}</title></line>"
            )
        style = "solid" if summary.curve else "dashed"
        line = f'<span style="border-color:{colour};border-top-style:{style}"></span>'
        legend.append(f"<li>{line}{name}</li>")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(average)} after each experience">{"".join(parts)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul>'
    )
