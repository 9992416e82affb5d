"""index.html of a comparison: one file, no script, no network, no text of a record."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from contlearn.benchmark.measures import FIGURES, titles
from contlearn.benchmark.result import BenchmarkResult, Summary, cell
from contlearn.pages.charts import Plot, share_ticks, svg
from contlearn.pages.style import html_page
from contlearn.wording import metric_name
from contlearn.workspace import write_bytes_atomic

__all__ = ["write_page"]

# Told apart by people who do not see all colours, on white and on black; after Okabe and Ito, 2008.
_COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#9b6bdf",
)  # fmt: skip
_PLOT: Final = Plot(width=640, height=280, left=40, right=10, top=8, bottom=28, inset=0)


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

    def x(step: int) -> float:
        return _PLOT.x(step / max(steps - 1, 1))

    parts = [_PLOT.grid(share_ticks())]
    parts += [_PLOT.below(x(i), str(i + 1), up=8) for i in range(0, steps, max(1, steps // 10))]
    legend = []
    for number, summary in enumerate(summaries):
        colour = _COLOURS[number % len(_COLOURS)]
        value = summary.means["average_accuracy"] or 0.0
        name = f"{escape(summary.name)} ({100 * value:.1f} %)"
        if summary.curve:
            points = " ".join(f"{x(i):.1f},{_PLOT.y(v):.1f}" for i, v in enumerate(summary.curve))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2">'
                f"<title>{name}</title></polyline>"
            )
        else:
            parts.append(
                f'<line x1="{x(0)}" x2="{_PLOT.x(1)}" y1="{_PLOT.y(value):.1f}" '
                f'y2="{_PLOT.y(value):.1f}" '
                f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="5 4">'
                f"<title>{name}</title></line>"
            )
        style = "solid" if summary.curve else "dashed"
        line = f'<span style="border-color:{colour};border-top-style:{style}"></span>'
        legend.append(f"<li>{line}{name}</li>")
    label = f"{average} after each experience"
    chart = svg(label, parts, _PLOT.width, _PLOT.height, pixels=(960, 420))
    return f'{chart}<ul class="legend">{"".join(legend)}</ul>'
