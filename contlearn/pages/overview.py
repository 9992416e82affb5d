"""The history of a model as one HTML page: no script, no network, no text of a record.

Light and dark follow the reader's system; charts and tables scroll inside themselves on a phone.
The daemon shows the same page for today and lets the browser load it again now and then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from contlearn.pages.charts import line_chart
from contlearn.pages.overview_charts import bars, interval_bar, looks_chart, stacked
from contlearn.pages.style import html_page
from contlearn.pages.tables import heat_cell, table
from contlearn.papers.journal import CHANGES, JournalRecord
from contlearn.registry.origin import origin_of
from contlearn.types import Metric
from contlearn.wording import (
    Measures,
    amount,
    best_words,
    metric_name,
    moment,
    percent,
    size,
    span,
)

__all__ = ["render_overview"]

_SHADE: Final = {
    "promoted": "good",
    "passed the gate": "good",
    "refused": "bad",
    "kept": "soft",
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
    title = f"{value['model']}: {'today' if live_seconds is not None else 'history'}"
    return html_page(title, "\n".join(part for part in parts if part), head=again)


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
        ("records kept for the next update", f"{status['kept_records']:,}"),
        ("records held", f"{status['held_records']:,}"),
        ("records learnt", f"{status['learnt_records']:,}"),
        ("versions", f"{status['versions']:,}"),
    ]
    inside = "".join(f"<div><b>{shown}</b>{escape(name)}</div>" for name, shown in cells)
    return f'<section class="figures">{inside}</section>'


def _today(value: Mapping[str, Any]) -> str:
    parts = []
    champion = value["status"]["champion"]
    if champion is not None and (said := best_words(champion, Measures.of(value["status"]))):
        parts.append(f"<p>The champion is {escape(said)}.</p>")
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
    return _section("What it still knows", note + table(head, rows))


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
        + table('<th>window to</th><th>version</th><th class="words">detectors</th>', rows)
        if rows
        else "<p>No look alarmed.</p>"
    )
    return _section("In production", f'{note}<div class="wide">{looks_chart(looks)}</div>{alarms}')


def _average(value: Mapping[str, Any]) -> str:
    """Name the mean over experiences of the task's measure."""
    return Measures.of(value["status"]).name("average_accuracy")


def _timeline(value: Mapping[str, Any]) -> str:
    items: list[tuple[str, str]] = []
    changes: list[JournalRecord] = [
        event for event in value["events"] if event.event in CHANGES and origin_of(event) != "cycle"
    ]
    by_hand = {change.version for change in changes if change.event == "promote"}
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
        outcome = version["outcome"] or version["verdict"]
        if outcome == "promoted" and version["version"] in by_hand:
            # What it was when it was made; that somebody promoted it later stands there.
            outcome = "passed the gate" if version["passed"] else version["verdict"]
        shade = _SHADE.get(outcome, "soft")
        rules = version["refused_by"] or version["kept_by"]
        why = f" by {escape(', '.join(rules))}" if rules else ""
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
    items += [(change.at, _change(change)) for change in changes]
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


def _change(change: JournalRecord) -> str:
    """Write a change of the champion that no cycle made."""
    if change.event == "rollback":
        shade, words = "warn", f"back to version {change.version}"
    else:
        past = ", past the gate" if change.force else ""
        shade, words = "good", f"version {change.version} promoted by hand{past}"
    before = f"before: version {change.previous}; " if change.previous else ""
    said = ": ".join(word for word in (change.actor, change.reason) if word)
    return (
        f'<li class="{shade}"><span class="soft">{_moment(change.at)}</span> '
        f'<b class="{shade}">{words}</b><br><span class="soft">{escape(before + said)}</span></li>'
    )


def _data(value: Mapping[str, Any]) -> str:
    parts = []
    if value["days"]:
        states = ("learnt", "pending", "kept", "held", "refused", "superseded", "forgotten")
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
        parts.append("<h3>Refused rows</h3>" + table("<th>reason</th><th>rows</th>", rows))
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
        f"{size(value['versions_bytes'])}, their copies for serving "
        f"{size(value['serving_bytes'])}; {size(value['disk_free_bytes'])} are free.</p>"
    )
    chart = stacked(columns[-60:], stages, "seconds")
    return _section("Costs", f'{note}<div class="wide">{chart}</div>')


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _moment(text: object) -> str:
    return escape(moment(text))
