"""The sections of a report page that show measures: tables and charts of report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, Final

from contlearn.errors import EvaluationError
from contlearn.evaluation.runtime import without_unknown
from contlearn.pages.charts import heat_map, line_chart, reliability_chart
from contlearn.pages.tables import bar_cell, change, heat_cell, table
from contlearn.papers.manifest import TrainingFacts, VersionFacts
from contlearn.papers.report import Comparison, EvaluationReport, SetReport
from contlearn.types import LabelScore, Metric
from contlearn.wording import amount, metric_name, milliseconds, number, percent

__all__ = [
    "accuracy_matrix",
    "confusions",
    "counts",
    "doubts",
    "forgetting_curve",
    "held_out_sets",
    "latency",
    "per_label",
    "reliability_diagram",
    "slices",
    "text_slices",
]

# Beyond so many rows a matrix is drawn instead of written.
_MATRIX_LABELS: Final = 16
_MATRIX_SETS: Final = 16
_CONFUSIONS: Final = 20
_LABELS_SHOWN: Final = 15
_CURVES: Final = 7
_SETS_SHOWN: Final = 4
# A drop that is worth a mark in the matrix.
_DROP: Final = 0.005


def accuracy_matrix(report: EvaluationReport) -> str:
    """Show R[t, k] as a heat map; a fall from the best so far is marked."""
    matrix = report.accuracy_matrix
    if not matrix:
        return ""
    measure, metric = escape(metric_name(report.primary_metric)), report.measure("average_accuracy")
    note = (
        f'<p class="soft">Row t: {measure} of the model after experience t. Column k: on the '
        "held-out rows of experience k. ▼ is the fall from the best so far; what was not measured "
        "is empty.</p>"
    )
    size = len(matrix)
    if size > _MATRIX_SETS:
        titles = [
            [f"after {t + 1}, set {k + 1}: {amount(value, metric)}" for k, value in enumerate(row)]
            for t, row in enumerate(matrix)
        ]
        drawn = "" if metric else heat_map(matrix, titles, label=f"{measure} after each experience")
        last = _matrix_rows(matrix, range(size - 1, size), metric)
        head = "<th>after</th>" + "".join(f"<th>set {k + 1}</th>" for k in range(size))
        return f'{note}<div class="wide">{drawn}</div>{table(head, last, style="narrow")}'
    head = "<th>after</th>" + "".join(f"<th>set {k + 1}</th>" for k in range(size))
    return note + table(head, _matrix_rows(matrix, range(size), metric), style="narrow")


def _matrix_rows(
    matrix: Sequence[Sequence[float | None]], which: range, metric: Metric | None
) -> list[str]:
    from contlearn.evaluation.metrics import forgetting_by_set

    rows = []
    for t in which:
        cells = []
        falls = forgetting_by_set(matrix[: t + 1], metric)
        for k, value in enumerate(matrix[t]):
            fall = (falls[k] if k < t else None) or 0.0
            lost = f"▼{100 * fall:.1f}" if metric is None else f"▼{number(fall)}"
            cells.append(_cell(value, metric, lost if fall >= _DROP else ""))
        rows.append(f"<tr><td>experience {t + 1}</td>{''.join(cells)}</tr>")
    return rows


def forgetting_curve(report: EvaluationReport) -> str:
    """Draw average measure and forgetting over experiences, and each set's own curve."""
    from contlearn.evaluation.metrics import as_matrix, average_accuracy, forgetting

    matrix = report.accuracy_matrix
    if len(matrix) < 2:
        return ""
    if report.measure("forgetting") is not None:
        return '<p class="soft">Curves are drawn of shares only; the matrix has the numbers.</p>'
    kept: list[float | None] = []
    lost: list[float | None] = []
    for t in range(len(matrix)):
        rows = as_matrix(matrix[: t + 1])
        for values, measure in ((kept, average_accuracy), (lost, forgetting)):
            try:
                values.append(measure(rows))
            except EvaluationError:
                values.append(None)
    average = metric_name("average_accuracy", report.primary_metric)
    whole = line_chart({average: kept, "forgetting": lost}, "experience")
    curves = {
        f"set {k + 1}": [row[k] if len(row) > k else None for row in matrix]
        for k in range(min(len(matrix) - 1, _CURVES))
    }
    rest = len(matrix) - 1 - len(curves)
    more = f" The first {len(curves)} of {rest + len(curves)} are drawn." if rest else ""
    return (
        f'<div class="wide">{whole}</div>'
        f'<p class="soft">What later experiences left of each set that was learnt before.{more}</p>'
        f'<div class="wide">{line_chart(curves, "experience")}</div>'
    )


def held_out_sets(report: EvaluationReport) -> str:
    """Show every measure on every set, beside the champion's; of many sets the first measure."""
    items = report.sets
    if len(items) > _SETS_SHOWN:
        first = [replace(item, metrics=dict(list(item.metrics.items())[:1])) for item in items]
        whole = f"<details><summary>All measures</summary>{_set_table(report, items)}</details>"
        return _set_table(report, first) + whole
    return _set_table(report, items) if items else ""


def _set_table(report: EvaluationReport, items: Sequence[SetReport]) -> str:
    rows = []
    for item in items:
        champion = item.champion or {}
        new = " (new)" if item.is_new else ""
        for place, (name, value) in enumerate(item.metrics.items()):
            first = f"set {item.index + 1}{new}" if place == 0 else ""
            size = f"{item.rows:,}" if place == 0 else ""
            metric, before = report.measure(name), champion.get(name)
            rows.append(
                f"<tr><td>{first}</td><td>{size}</td>"
                f'<td class="words">{escape(metric_name(name))}</td>'
                f"<td>{amount(value, metric)}</td>"
                f"<td>{amount(before, metric)}</td>{_change(value, before, metric)}</tr>"
            )
    head = (
        '<th>set</th><th>rows</th><th class="words">measure</th><th>now</th>'
        "<th>champion</th><th>change</th>"
    )
    return table(head, rows, style="narrow")


def slices(report: EvaluationReport) -> str:
    """Show the measure on parts of the rows: by length, script, source, group, field."""
    beside = report.comparison
    if beside is None or not beside.slices:
        return ""
    measure = escape(metric_name(beside.metric or "the measure"))
    metric = report.measure(beside.metric or "")
    rows, last = [], None
    for item in beside.slices:
        by = "" if item.by == last else item.by
        last = item.by
        rows.append(
            f'<tr><td>{escape(by)}</td><td class="words"><bdi>{escape(item.value)}</bdi>'
            f"</td><td>{item.rows:,}</td>"
            f"{_cell(item.challenger, metric)}<td>{amount(item.champion, metric)}</td>"
            f"{_change(item.challenger, item.champion, metric)}"
            "</tr>"
        )
    head = (
        f'<th>by</th><th class="words">slice</th><th>rows</th><th>{measure}</th>'
        "<th>champion</th><th>change</th>"
    )
    note = '<p class="soft">Over all held-out sets; values of fewer than 10 rows are left out.</p>'
    return note + table(head, rows, style="narrow")


def text_slices(report: EvaluationReport) -> str:
    """Show the slices of texts that the configuration names."""
    found = None if report.comparison is None else report.comparison.text_slices
    if not found:
        return ""
    rows = []
    for item in found:
        if "accuracy" not in item:
            rows.append(
                f"<tr><td>{escape(item['slice'])}</td><td>{item['rows']}</td>"
                f'<td class="words">{escape(item.get("problem", "too few rows"))}</td></tr>'
            )
            continue
        told = "; ".join(
            f"{escape(label['label'])} {label['rate']:.0%} (outside {label['rate_outside']:.0%}, "
            f"true {label['true_rate']:.0%} and {label['true_rate_outside']:.0%})"
            for label in item["labels"]
            if label["p_value"] <= 0.01
        )
        rows.append(
            f"<tr><td>{escape(item['slice'])}</td><td>{item['rows']}</td>"
            f"<td>{item['accuracy']:.1%}</td><td>{item['accuracy_outside']:.1%}</td>"
            f'<td class="words">{told or "none beyond chance"}</td></tr>'
        )
    head = (
        "<th>slice</th><th>rows</th><th>accuracy</th><th>outside</th>"
        '<th class="words">labels given more or less often</th>'
    )
    note = '<p class="soft">Held-out rows of named slices against all others.</p>'
    return note + table(head, rows)


def per_label(labels: Sequence[LabelScore]) -> str:
    """Show every label, the weakest first; a long list is folded."""
    ordered = sorted(labels, key=lambda item: (item.f1, item.label))
    most = max((item.support for item in ordered), default=1) or 1
    rows = [
        f"<tr><td><bdi>{escape(item.label)}</bdi></td><td>{percent(item.precision)}</td>"
        f"<td>{percent(item.recall)}</td>{heat_cell(item.f1, percent(item.f1))}"
        f"{bar_cell(item.support / most, str(item.support))}</tr>"
        for item in ordered
    ]
    head = "<th>label</th><th>precision</th><th>recall</th><th>F1</th><th>rows</th>"
    if not rows:
        return ""
    if len(rows) <= _LABELS_SHOWN + 5:
        return '<p class="soft">The weakest first.</p>' + table(head, rows)
    return (
        f'<p class="soft">The {_LABELS_SHOWN} weakest of {len(rows)}.</p>'
        + table(head, rows[:_LABELS_SHOWN])
        + f"<details><summary>All {len(rows)} labels</summary>{table(head, rows)}</details>"
    )


def confusions(confusion: Mapping[str, Any] | None) -> str:
    """Show the confusion matrix, written or drawn, and the commonest confusions."""
    if not confusion:
        return ""
    names, matrix = confusion["labels"], confusion["matrix"]
    pairs = sorted(
        (
            (count, names[i], names[j])
            for i, row in enumerate(matrix)
            for j, count in enumerate(row)
            if i != j and count
        ),
        key=lambda item: (-item[0], item[1], item[2]),
    )
    parts = []
    if len(names) <= _MATRIX_LABELS:
        head = "<th>expected</th>" + "".join(f"<th><bdi>{escape(n)}</bdi></th>" for n in names)
        rows = [
            f"<tr><td><bdi>{escape(name)}</bdi></td>"
            + "".join(heat_cell(count / max(sum(row), 1), str(count)) for count in row)
            + "</tr>"
            for name, row in zip(names, matrix, strict=True)
        ]
        note = '<p class="soft">Rows: expected; columns: predicted.</p>'
        parts.append(note + table(head, rows))
    else:
        shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
        titles = [
            [f"{name}, answered {names[j]}: {count}" for j, count in enumerate(row)]
            for name, row in zip(names, matrix, strict=True)
        ]
        drawn = heat_map(shares, titles, label="confusion matrix", wrong=True)
        parts.append(
            f'<p class="soft">Rows: expected; columns: predicted; {len(names)} labels in '
            "alphabetical order. Blue is right, red is wrong; point at a cell to read it.</p>"
            f'<div class="wide">{drawn}</div>'
        )
    if pairs:
        total = sum(count for count, _, _ in pairs)
        rows = [
            f'<tr><td><bdi>{escape(expected)}</bdi></td><td class="words"><bdi>{escape(given)}'
            f"</bdi></td>{bar_cell(count / pairs[0][0], str(count))}</tr>"
            for count, expected, given in pairs[:_CONFUSIONS]
        ]
        shown = min(len(pairs), _CONFUSIONS)
        parts.append(
            f'<p class="soft">The {shown} commonest of {len(pairs)} confusions '
            f"({total:,} wrong answers in all).</p>"
            + table('<th>expected</th><th class="words">predicted</th><th>times</th>', rows)
        )
    else:
        parts.append("<p>No answer was wrong.</p>")
    return "".join(parts)


def reliability_diagram(value: Mapping[str, Any] | None) -> str:
    """Draw share right over confidence."""
    if not value:
        return ""
    error = percent(value["expected_calibration_error"])
    note = (
        f'<p class="soft">Confidence and share right differ by {error} on average; on the dashed '
        "line confidences mean what they say.</p>"
    )
    return note + f'<div class="wide">{reliability_chart(value["bins"])}</div>'


def latency(runtime: Mapping[str, Any] | None) -> str:
    """Show what a text costs, beside the champion."""
    import numpy as np

    from contlearn.evaluation.runtime import latency_ratio

    value = (runtime or {}).get("latency")
    if not value:
        return ""
    rows = []
    for who, title in (("challenger", "this version"), ("champion", "champion")):
        if value.get(who):
            times = np.asarray(value[who])
            cells = "".join(
                f"<td>{milliseconds(float(t))}</td>"
                for t in (np.median(times), times.mean(), np.quantile(times, 0.95), times.max())
            )
            rows.append(f"<tr><td>{title}</td>{cells}</tr>")
    head = "<th>a text</th><th>median</th><th>mean</th><th>95 %</th><th>longest</th>"
    ratio = latency_ratio(value, confidence=0.95, seed=0)
    against = (
        ""
        if ratio is None
        else f" This version takes {ratio.value:.2f} times the champion's time (90 % interval "
        f"{ratio.lower:.2f} to {ratio.upper:.2f})."
    )
    note = (
        f'<p class="soft">{value["texts"]} held-out texts of all lengths, one at a time, in turns, '
        f"the median of {value['rounds']} rounds, on the machine of the update.{against}</p>"
    )
    return note + table(head, rows, style="narrow")


def counts(report: EvaluationReport, facts: VersionFacts) -> str:
    """Show how many records were learnt and measured on, and how they spread over labels."""
    lineage, beside = facts.lineage, report.comparison or Comparison()
    new = sum(item.rows for item in report.sets if item.is_new)
    old = sum(item.rows for item in report.sets if not item.is_new)
    cut = _tokens(beside.runtime)
    items = {
        "records learnt in this update": _count(lineage.records),
        "experiences on the lineage": _count(len(lineage.experiences) or None),
        "held-out rows of this update": _count(new),
        "held-out rows of earlier ones": _count(old),
        "records in the replay buffer": _buffer(facts.training),
        "pieces unknown to the tokenizer": cut[0],
        "held-out texts cut at the token limit": cut[1],
        **_unread_words(beside.runtime),
    }
    rows = [
        f'<tr><td>{name}</td><td class="words">{value}</td></tr>'
        for name, value in items.items()
        if value is not None
    ]
    learnt, measured = facts.training.label_counts, beside.label_counts
    names = sorted({*learnt, *measured}, key=lambda name: (-learnt.get(name, 0), name))
    most = max([*learnt.values(), *measured.values()], default=1)
    per = [
        f"<tr><td><bdi>{escape(name)}</bdi></td>"
        f"{bar_cell(learnt.get(name, 0) / most, str(learnt.get(name, 0)))}"
        f"{bar_cell(measured.get(name, 0) / most, str(measured.get(name, 0)))}</tr>"
        for name in names
    ]
    body = table("", rows, style="facts")
    if per:
        head = "<th>label</th><th>learnt now</th><th>held out, all sets</th>"
        whole = table(head, per)
        if len(per) > _LABELS_SHOWN:
            whole = f"<details><summary>Rows of all {len(per)} labels</summary>{whole}</details>"
        body += whole
    return body


def doubts(value: Mapping[str, Any] | None) -> str:
    """Show how many of the labels learnt and measured on are in doubt, and which pairs most."""
    if not value or not value.get("looked_at"):
        return ""
    note = (
        f'<p class="soft">{value["number"]} of {value["looked_at"]} labels of this update are in '
        f"doubt ({percent(value['share'])}): the model before this one, or one that has not seen "
        "the record, says another with confidence. Nothing was changed.</p>"
    )
    rows = [
        f"<tr><td><bdi>{escape(str(pair['given']))}</bdi></td>"
        f"<td><bdi>{escape(str(pair['suggested']))}</bdi></td>"
        f"<td>{pair['number']}</td><td>{pair['of']}</td></tr>"
        for pair in value.get("pairs", ())
    ]
    head = "<th>given</th><th>likely</th><th>in doubt</th><th>of this label</th>"
    return note + (table(head, rows) if rows else "")


def _buffer(training: TrainingFacts) -> str | None:
    held, most = training.buffer_records, training.buffer_capacity
    if held is None or most is None:
        return _count(held)
    return f"{held:,} (at most {most:,})"


def _tokens(runtime: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    tokens = (runtime or {}).get("tokens") or ()
    pieces = sum(item["pieces"] for item in tokens)
    rows = sum(item["rows"] for item in tokens)
    if not pieces or not rows:
        return None, None
    unknown = percent(sum(item["unknown"] for item in tokens) / pieces)
    return (
        "none: it cannot have any" if without_unknown(runtime or {}) else unknown,
        percent(sum(item["cut"] for item in tokens) / rows),
    )


def _unread_words(runtime: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Count the held-out words that the model does not read, for tasks that label words."""
    words = [item["words"] for item in (runtime or {}).get("tokens") or () if "words" in item]
    if not words:
        return {}
    return {
        "held-out words without pieces": _count(sum(item["lost"] for item in words)),
        "held-out words beyond the token limit": _count(sum(item["cut"] for item in words)),
    }


def _count(value: Any) -> str | None:
    return None if value is None else f"{value:,}"


def _cell(value: float | None, metric: Metric | None, note: str = "") -> str:
    """Make a cell of a measure; only shares have a colour, as nothing says how far others go."""
    if metric is None or value is None:
        return heat_cell(value, percent(value), note)
    more = f' <span class="bad small">{escape(note)}</span>' if note else ""
    return f"<td>{escape(amount(value, metric))}{more}</td>"


def _change(value: float | None, before: float | None, metric: Metric | None) -> str:
    if value is None or before is None:
        return "<td>–</td>"
    style, moved = change(value, before, metric)
    return f'<td class="{style}">{moved}</td>'
