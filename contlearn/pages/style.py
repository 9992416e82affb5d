"""The style of report pages: light and dark as the reader's system is, on a phone, in print."""

from __future__ import annotations

from typing import Final

__all__ = ["CHART_STYLE", "STYLE"]

# What the charts of `charts` need on any page; the page gives the colours as variables.
CHART_STYLE: Final = """\
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, "Noto Sans", sans-serif; }
svg .grid { stroke: var(--line); } svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 2; stroke: currentColor; }
svg .dot { fill: currentColor; } svg .count { fill: var(--grey); fill-opacity: .55; }
svg .back { fill: var(--card); } svg .fill-heat { fill: rgb(var(--heat)); }
svg .fill-bad { fill: var(--bad); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); } .grey { color: var(--grey); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin: .3rem 0; }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-inline-end: .35rem;
  border-radius: .15rem; background: currentColor; }
td.bar { position: relative; min-width: 7rem; } td.bar b { position: relative; font-weight: 400; }
td.bar i { position: absolute; top: .25rem; height: 1.45rem; left: 0; border-radius: .2rem;
  background: rgba(var(--heat), .28); }
@media (max-width: 40rem) { svg text { font-size: 15px; } td.bar { min-width: 3.25rem; } }
"""
STYLE: Final = (
    """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d8dee4;
  --page: #ffffff; --card: #f6f8fa; --good: #1a7f37; --bad: #c62828; --mark: #0b63ce;
  --heat: 31, 111, 235; --grey: #afb8c1; --c0: #0b63ce; --c1: #c62828; --c2: #1a7f37;
  --c3: #9a6700; --c4: #8250df; --c5: #0e7490; --c6: #bf3989; --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b3; --line: #30363d;
  --page: #0d1117; --card: #161b22; --good: #4ac26b; --bad: #ff8078; --mark: #79b8ff;
  --heat: 56, 139, 253; --grey: #484f58; --c0: #6cb0ff; --c1: #ff8078; --c2: #4ac26b;
  --c3: #e3b341; --c4: #c297ff; --c5: #56d4dd; --c6: #ff9bce; --c7: #9da7b3; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; scroll-margin-top: 1rem; }
p { margin: .4rem 0; } a { color: var(--mark); }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.small { font-size: .85em; }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-weight: 600;
  border: 1px solid currentColor; }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; margin: 1rem 0; padding: .6rem 0;
  border-block: 1px solid var(--line); font-size: .9rem; } nav a { text-decoration: none; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr));
  gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; } .figures b { display: block; font-size: 1.35rem;
  font-variant-numeric: tabular-nums; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem;
  margin: .6rem 0; background: var(--card); } .card p { margin: .15rem 0; }
.rule { border-bottom: 1px solid var(--line); padding: .5rem 0; } .rule p { margin: .1rem 0 0; }
.text { white-space: pre-wrap; unicode-bidi: isolate; }
.wide { overflow-x: auto; max-width: 100%; } .wide + .wide { margin-top: 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td:first-child { white-space: normal; min-width: 6rem; max-width: 20rem; }
td.words { white-space: normal; min-width: 8rem; }
table.narrow td:first-child { white-space: nowrap; min-width: 0; }
table.facts td:first-child { color: var(--soft); min-width: 9rem; }
table.facts td.words { min-width: 0; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--mark); }
"""
    + CHART_STYLE
    + """\
.flip p { margin: .15rem 0; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; } th, td { padding: .3rem .4rem; }
  td:first-child { min-width: 7rem; }
  table.narrow td:first-child { min-width: 0; }
  .wide th:first-child, .wide td:first-child { position: sticky; left: 0; z-index: 1;
    background: var(--page); }
  h1 { font-size: 1.35rem; } }
@media print { nav { display: none; } h2 { break-after: avoid; } .card { break-inside: avoid; } }
"""
)
