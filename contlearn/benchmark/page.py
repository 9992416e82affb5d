"""index.html of a comparison: one file, no script, no network, no text of a record."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from contlearn.benchmark.measures import FIGURES, titles
from contlearn.benchmark.result import BenchmarkResult, Summary, cell
from contlearn.wording import metric_name
from contlearn.workspace import write_bytes_atomic

__all__ = ["write_page"]

# Told apart by people who do not see all colours, on white and on black; after Okabe and Ito, 2008.
_COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#9b6bdf",
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 280, 40, 28
_STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --page: #fff; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --text: #e8ecf0; --soft: #9aa5b1; --line: #343b44;
  --page: #12161b; --card: #1b2128; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; margin: 1rem 0; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.legend { list-style: none; padding: 0; margin: .5rem 0 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1.4rem; } .legend span { display: inline-block; width: 1.6rem; height: 0;
  border-top: 3px solid; vertical-align: middle; margin-right: .5rem; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui; }
@media (max-width: 40rem) { svg text { font-size: 17px; } }
"""


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
    body = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Strategies compared</title><style>{_STYLE}</style>
<h1>Strategies compared</h1>
<p class="soft">{len(result.steps)} experiences in the order of time. Choices were made on
development rows, figures are of test rows, in percent; means over seeds.</p>
<div class="card"><b>Recommended: {chosen}</b><br>{reason}</div>
<h2>{escape(average[:1].upper() + average[1:])} on what was seen, after each experience</h2>
{_curves(result.summaries, average)}
<h2>Figures</h2><div class="wide"><table><tr><th>strategy</th>{heads}<th>seeds</th></tr>{rows}
</table></div>
<h2>Experiences</h2><ol>{"".join(f"<li>{escape(name)}</li>" for name in result.steps)}</ol></html>
"""
    write_bytes_atomic(path, body.encode())


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
