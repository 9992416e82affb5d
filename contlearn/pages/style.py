"""The style of every page: light and dark as the reader's system is, on a phone, in print.

Standard library only: the server, the daemon and the benchmark take it from here too.
"""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["STYLE", "html_page"]

STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d8dee4;
  --page: #ffffff; --card: #f6f8fa; --good: #1a7f37; --bad: #c62828; --mark: #0b63ce;
  --warn: #9a6700; --heat: 31, 111, 235; --grey: #afb8c1; --c0: #0b63ce; --c1: #c62828;
  --c2: #1a7f37; --c3: #9a6700; --c4: #8250df; --c5: #0e7490; --c6: #bf3989; --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b3; --line: #30363d;
  --page: #0d1117; --card: #161b22; --good: #4ac26b; --bad: #ff8078; --mark: #79b8ff;
  --warn: #e3b341; --heat: 56, 139, 253; --grey: #484f58; --c0: #6cb0ff; --c1: #ff8078;
  --c2: #4ac26b; --c3: #e3b341; --c4: #c297ff; --c5: #56d4dd; --c6: #ff9bce; --c7: #9da7b3; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; scroll-margin-top: 1rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; color: var(--soft); }
ul { margin: .4rem 0; padding-left: 1.2rem; }
p { margin: .4rem 0; } a { color: var(--mark); }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.warn { color: var(--warn); } .small { font-size: .85em; }
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
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, "Noto Sans", sans-serif; }
svg .grid { stroke: var(--line); } svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 2; stroke: currentColor; }
svg .dot { fill: currentColor; } svg .count { fill: var(--grey); fill-opacity: .55; }
svg .back { fill: var(--card); } svg .fill-heat { fill: rgb(var(--heat)); }
svg .fill-bad { fill: var(--bad); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin: .3rem 0; }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-inline-end: .35rem;
  border-radius: .15rem; background: currentColor; }
td.bar { position: relative; min-width: 7rem; } td.bar b { position: relative; font-weight: 400; }
td.bar i { position: absolute; top: .25rem; height: 1.45rem; left: 0; border-radius: .2rem;
  background: rgba(var(--heat), .28); }
@media (max-width: 40rem) { svg text { font-size: 15px; } td.bar { min-width: 3.25rem; } }
ul.legend span { display: inline-block; width: 1.6rem; height: 0; border-top: 3px solid;
  vertical-align: middle; margin-inline-end: .5rem; } ul.legend { list-style: none; padding: 0; }
ol.line { list-style: none; margin: 0; padding: 0 0 0 1rem; border-left: 2px solid var(--line); }
ol.line li { position: relative; padding: .35rem 0 .35rem .4rem; }
ol.line li::before { content: ""; position: absolute; left: -1.42rem; top: .8rem; width: .7rem;
  height: .7rem; border-radius: 50%; background: currentColor; border: 2px solid var(--page); }
ol.line li > * { color: var(--text); } ol.line li > .soft { color: var(--soft); }
ol.line li > b.good { color: var(--good); } ol.line li > b.bad { color: var(--bad); }
ol.line li > b.warn { color: var(--warn); }
table.bars { width: 100%; max-width: 46rem; } table.bars td.bar { text-align: left; width: 60%; }
table.bars td:first-child { max-width: 18rem; overflow: hidden; text-overflow: ellipsis; }
body.narrow { max-width: 46rem; }
body.narrow header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline;
  margin-bottom: 1.25rem; } #state { color: var(--soft); }
#state.bad { color: var(--bad); } #state.good { color: var(--good); }
input { padding: .4rem .6rem; font: inherit; color: inherit; border: 1px solid var(--line);
  border-radius: .5rem; background: transparent; } #token { -webkit-text-security: disc; }
textarea { width: 100%; min-height: 7rem; padding: .6rem; font: inherit; color: inherit;
  border: 1px solid var(--line); border-radius: .5rem; background: transparent; resize: vertical; }
button { font: inherit; padding: .5rem 1.25rem; border: 0; border-radius: .5rem; cursor: pointer;
  background: var(--mark); color: var(--page); } button:disabled { opacity: .5; cursor: default; }
[hidden] { display: none !important; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: center; margin: .6rem 0 1.25rem; }
.score { display: grid; grid-template-columns: minmax(5rem, 2fr) 3fr 4rem; gap: .75rem;
  align-items: center; } .score div { background: var(--line); border-radius: .25rem;
  height: .5rem; } .score div div { background: var(--mark); }
.score span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
mark { border-radius: .2rem; padding: 0 .15rem; }
mark small { margin-left: .3rem; opacity: .75; }
footer { margin-top: 2rem; color: var(--soft); font-size: .9rem; } footer a { color: inherit; }
.flip p { margin: .15rem 0; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; } th, td { padding: .3rem .4rem; }
  td:first-child { min-width: 7rem; }
  table.narrow td:first-child { min-width: 0; }
  .wide th:first-child, .wide td:first-child { position: sticky; left: 0; z-index: 1;
    background: var(--page); }
  table.bars td:first-child { max-width: 9.5rem; } h1 { font-size: 1.35rem; } }
@media print { nav { display: none; } h2 { break-after: avoid; } .card { break-inside: avoid; } }
"""


def html_page(title: str, body: str, *, head: str = "") -> str:
    """Put a whole page around what it shows: one file that loads nothing from elsewhere.

    Args:
        title: As plain text.
        body: Markup, escaped where it comes from data.
        head: More markup for the head.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{head}<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
