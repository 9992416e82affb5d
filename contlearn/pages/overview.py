"""The history of a model as one HTML page: no script, no network, no text of a record.

Light and dark follow the reader's system; charts and tables scroll inside themselves on a phone.
The daemon shows the same page for today and lets the browser load it again now and then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from contlearn.pages.charts import heat_cell, line_chart
from contlearn.pages.overview_charts import bars, interval_bar, looks_chart, stacked
from contlearn.pages.style import CHART_STYLE
from contlearn.registry.by_hand import is_by_hand
from contlearn.types import Metric
from contlearn.wording import Measures, amount, metric_name, percent, span

__all__ = ["render_overview"]

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --page: #ffffff; --card: #f5f7f9; --good: #1a7f37; --bad: #c2262e; --warn: #9a6700;
  --mark: #1f6feb; --heat: 31, 111, 235; --c0: #1f6feb; --c1: #bf8700; --c2: #1a7f37;
  --c3: #8250df; --c4: #cf222e; --c5: #59636e; --c6: #bf3989; --c7: #0e7490; --grey: #afb8c1; }
@media (prefers-color-scheme: dark) { :root { --text: #e8ecf0; --soft: #9aa5b1; --line: #343b44;
  --page: #12161b; --card: #1b2128; --good: #4ac26b; --bad: #ff7b72; --warn: #d4a72c;
  --mark: #6cb0ff; --heat: 88, 166, 255; --c0: #6cb0ff; --c1: #e3b341; --c2: #4ac26b;
  --c3: #bc8cff; --c4: #ff7b72; --c5: #9aa5b1; --c6: #ff9bce; --c7: #56d4dd; --grey: #484f58; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; color: var(--soft); }
p { margin: .4rem 0; } ul { margin: .4rem 0; padding-left: 1.2rem; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.warn { color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; } .figures b { display: block; font-size: 1.35rem;
  font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; margin: .6rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td.words { white-space: normal; min-width: 12rem; }
ol.line { list-style: none; margin: 0; padding: 0 0 0 1rem; border-left: 2px solid var(--line); }
ol.line li { position: relative; padding: .35rem 0 .35rem .4rem; }
ol.line li::before { content: ""; position: absolute; left: -1.42rem; top: .8rem; width: .7rem;
  height: .7rem; border-radius: 50%; background: currentColor; border: 2px solid var(--page); }
ol.line li > * { color: var(--text); } ol.line li > .soft { color: var(--soft); }
ol.line li > b.good { color: var(--good); } ol.line li > b.bad { color: var(--bad); }
ol.line li > b.warn { color: var(--warn); }
table.bars { width: 100%; max-width: 46rem; } table.bars td.bar { text-align: left; width: 60%; }
table.bars td:first-child { max-width: 18rem; overflow: hidden; text-overflow: ellipsis; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } th, td { padding: .3rem .4rem; }
  .wide th:first-child, .wide td:first-child { position: sticky; left: 0; z-index: 1;
    background: var(--page); }
  table.bars td:first-child { max-width: 9.5rem; } }
"""
_SHADE: Final = {
    "promoted": "good",
    "passed the gate": "good",
    "refused": "bad",
    "failed": "bad",
    "awaiting-approval": "warn",
    "rollback": "warn",
}
_TIMELINE: Final = 60


def render_overview(value: Mapping[str, Any], *, live_seconds: int | None = None) -> str:
    """Write the page.

    Args:
        value: What `read_overview` gave.
        live_seconds: The browser loads it again after so long; a page on disk is not.
    """
    parts = [
        _head(value, live_seconds),
        _figures(value),
        _today(value),
        _curves(value),
        _matrix(value["matrix"], Measures.of(value["status"]).metric("average_accuracy")),
        _production(value),
        _timeline(value),
        _data(value),
        _costs(value),
    ]
    again = (
        f'<meta http-equiv="refresh" content="{live_seconds}">\n'
        if live_seconds is not None
        else ""
    )
    title = escape(f"{value['model']}: {'today' if live_seconds is not None else 'history'}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{again}<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{CHART_STYLE}{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _head(value: Mapping[str, Any], live_seconds: int | None) -> str:
    champion = value["status"]["champion"]
    served = (
        "no version was promoted yet"
        if champion is None
        else f"version {champion['version']} since {_moment(champion['promoted_at'])}"
    )
    kind = "live" if live_seconds is not None else "as of"
    return (
        f"<header><h1>{escape(value['model'])}</h1><p>{escape(served)}</p>"
        f'<p class="soft">{escape(value["task"])} · {kind} {_moment(value["at"])} UTC</p></header>'
    )


def _figures(value: Mapping[str, Any]) -> str:
    status, signals = value["status"], value["signals"] or {}
    metrics = (status["champion"] or {}).get("metrics", {})
    measures = Measures.of(status)
    cells = [
        (_average(value), measures.shown("average_accuracy", metrics.get("average_accuracy"))),
        ("forgetting", measures.shown("forgetting", metrics.get("forgetting"))),
    ]
    for name in ("estimated", "measured"):
        item = signals.get(name) or {}
        if item.get("value") is not None:
            cells.append((f"{name} in production", percent(item["value"])))
    cells += [
        ("records pending", f"{status['pending_records']:,}"),
        ("records held", f"{status['held_records']:,}"),
        ("records learnt", f"{status['learnt_records']:,}"),
        ("versions", f"{status['versions']:,}"),
    ]
    inside = "".join(f"<div><b>{shown}</b>{escape(name)}</div>" for name, shown in cells)
    return f'<section class="figures">{inside}</section>'


def _today(value: Mapping[str, Any]) -> str:
    parts = []
    running = value["status"]["running_cycle"]
    if running is not None:
        word = "was interrupted in" if running["interrupted"] else "is now in"
        parts.append(f"<p>Cycle {escape(running['cycle'])} {word} state {running['state']}.</p>")
    waiting = value["status"].get("awaiting_approval")
    if waiting:
        parts.append(f'<p class="warn">Version {waiting} waits for approval.</p>')
    signals = value["signals"]
    if signals is None:
        parts.append('<p class="soft">Nobody has looked at production yet.</p>')
        return _section("Now", "".join(parts))
    drift = signals["drift"]
    when = f'<span class="soft">(looked at {_moment(signals["written_at"])})</span>'
    if signals["window_records"] == 0:
        parts.append(f"<p>Too few answers to judge drift {when}.</p>")
    elif drift["detected"]:
        since = _moment(drift["since"])
        parts.append(
            f'<p><b class="bad">{escape(drift["severity"].capitalize())} drift</b> since {since}, '
            f"in {drift['consecutive']} looks in a row {when}.</p>"
            "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in drift["explanation"]) + "</ul>"
        )
    else:
        parts.append(
            f'<p><b class="good">No drift</b> in the newest {signals["window_records"]} answers '
            f"{when}.</p>"
        )
    for name in ("estimated", "measured"):
        item = signals[name]
        if item["value"] is not None:
            note = ' <b class="bad">It dropped.</b>' if item["dropped"] else ""
            parts.append(
                f"<h3>Accuracy {name}, {item['records']} rows</h3>"
                f"<p>{percent(item['value'])} ({percent(item['low'])} to "
                f"{percent(item['high'])}); on held-out rows {percent(item['reference'])}.{note}"
                f'</p><div class="wide">{interval_bar(item)}</div>'
            )
    if signals["calibration_error"] is not None:
        error = percent(signals["calibration_error"])
        parts.append(f"<p>Confidence and share right differ by {error} on average.</p>")
    return _section("Now", f'<div class="card">{"".join(parts)}</div>')


def _curves(value: Mapping[str, Any]) -> str:
    made = [v for v in value["versions"] if "problem" not in v and v["metrics"]]
    if len(made) < 2 or Measures.of(value["status"]).metric("forgetting"):
        return ""  # a chart is of shares; the timeline has the numbers
    series = {
        name: [v["metrics"].get(key) for v in made]
        for name, key in ((_average(value), "average_accuracy"), ("forgetting", "forgetting"))
    }
    numbers = f"versions {made[0]['version']} to {made[-1]['version']}, refused ones too"
    note = f'<p class="soft">Over {numbers}.</p>'
    chart = line_chart(series, "version")
    measure = metric_name(Measures.of(value["status"]).primary)
    title = f"{measure[:1].upper()}{measure[1:]} and forgetting"
    return _section(title, f'{note}<div class="wide">{chart}</div>')


def _matrix(matrix: Sequence[Sequence[float | None]], metric: Metric | None) -> str:
    if not matrix:
        return ""
    head = "<th>after</th>" + "".join(f"<th>set {k + 1}</th>" for k in range(len(matrix)))
    rows = [
        f"<tr><td>experience {t + 1}</td>"
        + "".join(heat_cell(cell if metric is None else 0.0, amount(cell, metric)) for cell in row)
        + "</tr>"
        for t, row in enumerate(matrix)
    ]
    note = (
        '<p class="soft">Row t: the model after experience t. Column k: the held-out rows of '
        "experience k.</p>"
    )
    return _section("What it still knows", note + _table(head, rows))


def _production(value: Mapping[str, Any]) -> str:
    looks = value["looks"]
    if len(looks) < 2:
        return ""
    note = (
        '<p class="soft">Band: accuracy estimated without labels, 95 %. Dots: measured on labels '
        "that came back. Dashed: held-out rows of the version. Red bars: drift alarms.</p>"
    )
    rows = [
        f"<tr><td>{_moment(item.get('window_to'))}</td><td>{item.get('version')}</td>"
        f'<td class="words">{escape(", ".join(item.get("detectors") or ()))}</td></tr>'
        for item in reversed(looks)
        if item.get("detected")
    ][:15]
    alarms = (
        "<h3>Alarms</h3>"
        + _table('<th>window to</th><th>version</th><th class="words">detectors</th>', rows)
        if rows
        else "<p>No look alarmed.</p>"
    )
    return _section("In production", f'{note}<div class="wide">{looks_chart(looks)}</div>{alarms}')


def _average(value: Mapping[str, Any]) -> str:
    """Name the mean over experiences of the task's measure."""
    return Measures.of(value["status"]).name("average_accuracy")


def _timeline(value: Mapping[str, Any]) -> str:
    items: list[tuple[str, str]] = []
    by_hand = {e["version"] for e in value["events"] if e["event"] == "promote" and is_by_hand(e)}
    for version in value["versions"]:
        if "problem" in version:
            items.append(
                (
                    "",
                    (
                        f'<li class="bad"><b class="bad">version {version["version"]}</b> '
                        f"<span>{escape(str(version['problem']))}</span></li>"
                    ),
                )
            )
            continue
        outcome = version["outcome"] or ("promoted" if version["passed"] else "refused")
        if outcome == "promoted" and version["version"] in by_hand:
            # What it was when it was made; that somebody promoted it later stands there.
            outcome = "passed the gate" if version["passed"] else "refused"
        shade = _SHADE.get(outcome, "soft")
        why = f" by {escape(', '.join(version['refused_by']))}" if version["refused_by"] else ""
        crown = " · champion" if version["is_champion"] else ""
        name = "average_accuracy"
        average = Measures.of(value["status"]).shown(name, version["metrics"].get(name))
        items.append(
            (
                version["created_at"],
                (
                    f'<li class="{shade}"><span class="soft">{_moment(version["created_at"])}'
                    "</span> "
                    f'<b class="{shade}">version {version["version"]} {escape(outcome)}</b>'
                    f"<span>{why}{crown}</span><br>"
                    f'<span class="soft">{escape(_average(value))} {average}, '
                    f"{version['labels']} labels, {_count(version['records'])} new records, "
                    f"{version['seconds']:.0f} s</span></li>"
                ),
            )
        )
    with_version = {v["version"] for v in value["versions"]}
    for cycle in value["cycles"]:
        if cycle["version"] in with_version or cycle["outcome"] != "failed":
            continue
        items.append(
            (
                str(cycle["started_at"]),
                (
                    f'<li class="bad"><span class="soft">{_moment(cycle["started_at"])}</span> '
                    f'<b class="bad">update failed</b><br><span class="soft">'
                    f"{escape(str(cycle['error'] or '')[:200])}</span></li>"
                ),
            )
        )
    items += [(str(event["at"]), _change(event)) for event in value["events"] if is_by_hand(event)]
    if not items:
        return _section("Versions", '<p class="soft">None yet.</p>')
    items.sort(key=lambda item: item[0], reverse=True)
    more = (
        f'<p class="soft">{len(items) - _TIMELINE} older ones are in `contlearn history`.</p>'
        if len(items) > _TIMELINE
        else ""
    )
    listed = "".join(text for _, text in items[:_TIMELINE])
    return _section("Versions", f'<ol class="line">{listed}</ol>{more}')


def _change(event: Mapping[str, Any]) -> str:
    """Write a change of the champion that no cycle made."""
    version = event.get("version")
    if event["event"] == "rollback":
        shade, words = "warn", f"back to version {version}"
    else:
        past = ", past the gate" if event.get("force") else ""
        shade, words = "good", f"version {version} promoted by hand{past}"
    before = f"before: version {event['previous']}; " if event.get("previous") else ""
    said = ": ".join(str(event[key]) for key in ("actor", "reason") if event.get(key))
    return (
        f'<li class="{shade}"><span class="soft">{_moment(event["at"])}</span> '
        f'<b class="{shade}">{words}</b><br><span class="soft">{escape(before + said)}</span></li>'
    )


def _data(value: Mapping[str, Any]) -> str:
    parts = []
    if value["days"]:
        states = ("learnt", "pending", "held", "refused", "superseded", "forgotten")
        columns = [(day["day"], [day.get(state, 0) for state in states]) for day in value["days"]]
        parts.append(
            "<h3>Records by day of arrival</h3>"
            f'<div class="wide">{stacked(columns, states, "records")}</div>'
        )
    if value["labels"]:
        rest = value["labels_in_all"] - len(value["labels"])
        more = f'<p class="soft">and {rest:,} further labels</p>' if rest > 0 else ""
        parts.append(f"<h3>Labels, by their records</h3>{bars(value['labels'])}{more}")
    if value["refused"]:
        rows = [
            f"<tr><td>{escape(reason)}</td><td>{number:,}</td></tr>"
            for reason, number in value["refused"]
        ]
        parts.append("<h3>Refused rows</h3>" + _table("<th>reason</th><th>rows</th>", rows))
    return _section("Data", "".join(parts)) if parts else ""


def _costs(value: Mapping[str, Any]) -> str:
    spent = [
        (f"{_moment(c['started_at'])} {c['cycle']}", c["numbers"]["seconds"])
        for c in value["cycles"]
        if (c["numbers"] or {}).get("seconds")
    ]
    if not spent:
        return ""
    stages = list(dict.fromkeys(stage for _, seconds in spent for stage in seconds))[:6]
    columns = [(cycle, [seconds.get(stage, 0.0) for stage in stages]) for cycle, seconds in spent]
    taken = span(sum(sum(seconds.values()) for _, seconds in spent))
    note = (
        f"<p>The newest {len(spent)} updates that came to an end took {taken}. "
        "All files of the versions (models, checkpoints, states, papers) take "
        f"{_size(value['versions_bytes'])}, their copies for serving "
        f"{_size(value['serving_bytes'])}; {_size(value['disk_free_bytes'])} are free.</p>"
    )
    chart = stacked(columns[-60:], stages, "seconds")
    return _section("Costs", f'{note}<div class="wide">{chart}</div>')


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _size(number: float) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def _moment(text: object) -> str:
    return escape(str(text)[:16].replace("T", " ")) if text else "–"
