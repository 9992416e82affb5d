"""report.html of a version: one file, no script, no network, no text of a record.

Light and dark follow the reader's system; wide tables scroll inside themselves, so that a phone
shows it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from contlearn.evaluation.charts import heat_cell, line_chart, reliability_chart
from contlearn.workspace import FileOperations, read_json, write_bytes_atomic

__all__ = ["REPORT_PAGE", "render_report", "write_report_page"]

REPORT_PAGE: Final = "report.html"
# Beyond so many labels a matrix says nothing to the eye; the commonest confusions do.
_MATRIX_LABELS: Final = 20
_CONFUSIONS: Final = 20
_NAMES: Final = {
    "average_accuracy": "average accuracy",
    "backward_transfer": "backward transfer",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "f1": "F1",
}

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --page: #ffffff; --card: #f5f7f9; --good: #1a7f37; --bad: #c2262e; --mark: #1f6feb;
  --heat: 31, 111, 235; }
@media (prefers-color-scheme: dark) { :root { --text: #e8ecf0; --soft: #9aa5b1; --line: #343b44;
  --page: #12161b; --card: #1b2128; --good: #4ac26b; --bad: #ff7b72; --mark: #6cb0ff;
  --heat: 88, 166, 255; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .good { color: var(--good); }
.bad { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; } .figures b { display: block; font-size: 1.35rem;
  font-variant-numeric: tabular-nums; }
.rule { border-bottom: 1px solid var(--line); padding: .5rem 0; }
.rule p { margin: .1rem 0 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide + .wide { margin-top: 1.2rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td.words { white-space: normal; overflow-wrap: break-word; min-width: 15rem; }
svg { max-width: 100%; height: auto; display: block; } svg text { fill: var(--soft);
  font: 11px system-ui, sans-serif; }
"""


def write_report_page(
    folder: Path, *, name: str, facts: Mapping[str, Any], files: FileOperations | None = None
) -> Path:
    """Write report.html into a version folder, from its report.json and decision.json.

    Args:
        folder: The version being built.
        name: The model's name.
        facts: Parts of the manifest: `model`, `lineage`, `training`, `export`.
        files: How files are changed.
    Returns:
        The page.
    Raises:
        StorageError: When a report is missing or the page cannot be written.
    """
    page = render_report(
        name=name,
        facts=facts,
        report=read_json(folder / "report.json"),
        decision=read_json(folder / "decision.json"),
    )
    path = folder / REPORT_PAGE
    write_bytes_atomic(path, page.encode(), files=files or FileOperations())
    return path


def render_report(
    *, name: str, facts: Mapping[str, Any], report: Mapping[str, Any], decision: Mapping[str, Any]
) -> str:
    """Write the page as HTML."""
    parts = [
        _head(name, facts, decision),
        _figures(report["metrics"]),
        _decision(decision),
        _matrix(report),
        _forgetting(report),
        _sets(report),
        _labels(report["per_label"]),
        _confusion(report.get("confusion")),
        _reliability(report.get("reliability")),
        _facts(facts),
    ]
    title = escape(f"{name}: report of a version")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _head(name: str, facts: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    passed = bool(decision.get("promoted"))
    verdict = "The gate let it pass" if passed else "The gate refused it"
    champion = decision.get("champion")
    against = f"compared with version {champion}" if champion is not None else "the first version"
    lineage, model = facts.get("lineage", {}), facts.get("model", {})
    return (
        f"<header><h1>{escape(name)}</h1>"
        f'<p class="{"good" if passed else "bad"}"><b>{verdict}</b> '
        f'<span class="soft">({escape(against)})</span></p>'
        f'<p class="soft">Cycle {escape(str(lineage.get("cycle", "–")))} · '
        f"{escape(str(model.get('task', '–')))} · {len(model.get('labels', ()))} outputs · "
        f"{escape(str(lineage.get('strategy', '–')))} · "
        f"{escape(str(model.get('precision', '–')))}</p></header>"
    )


def _figures(metrics: Mapping[str, float | None]) -> str:
    cells = [
        f"<div><b>{_percent(value)}</b>{escape(_NAMES.get(name, name))}</div>"
        for name, value in metrics.items()
    ]
    return f'<section class="figures">{"".join(cells)}</section>'


def _decision(decision: Mapping[str, Any]) -> str:
    words = {True: ("good", "passed"), False: ("bad", "refused"), None: ("soft", "not applicable")}
    parts = [f'<p class="bad">{escape(warning)}</p>' for warning in decision.get("warnings", ())]
    for outcome in decision.get("outcomes", ()):
        style, word = words[outcome["passed"]]
        numbers = ""
        if outcome["measured"] is not None:
            numbers = f"measured {_number(outcome['measured'])}"
        if outcome["required"] is not None:
            numbers += f", required {_number(outcome['required'])}"
        parts.append(
            f'<div class="rule"><b>{escape(outcome["rule"])}</b> '
            f'<span class="{style}">{word}</span> <span class="soft">{numbers}</span>'
            f"<p>{escape(outcome['message'])}</p></div>"
        )
    return _section("Decision", "".join(parts))


def _matrix(report: Mapping[str, Any]) -> str:
    matrix = report["accuracy_matrix"]
    if not matrix:
        return ""
    head = "<th>after</th>" + "".join(f"<th>set {k + 1}</th>" for k in range(len(matrix)))
    rows = [
        f"<tr><td>experience {t + 1}</td>"
        + "".join(heat_cell(value, _percent(value)) for value in row)
        + "</tr>"
        for t, row in enumerate(matrix)
    ]
    note = (
        '<p class="soft">Row t: the model after experience t. Column k: the held-out rows of '
        "experience k. What was not measured is empty.</p>"
    )
    return _section("Accuracy matrix", note + _table(head, rows))


def _forgetting(report: Mapping[str, Any]) -> str:
    from contlearn.evaluation.metrics import as_matrix, average_accuracy, forgetting

    matrix = report["accuracy_matrix"]
    if len(matrix) < 2:
        return ""
    from contlearn.errors import EvaluationError

    kept: list[float | None] = []
    lost: list[float | None] = []
    for t in range(len(matrix)):
        rows = as_matrix(matrix[: t + 1])
        for values, measure in ((kept, average_accuracy), (lost, forgetting)):
            try:
                values.append(measure(rows))
            except EvaluationError:
                values.append(None)
    chart = line_chart({"average accuracy": kept, "forgetting": lost}, "experience")
    return _section("Over the experiences", f'<div class="wide">{chart}</div>')


def _sets(report: Mapping[str, Any]) -> str:
    rows = []
    for item in report["sets"]:
        champion = item.get("champion") or {}
        new = " (new)" if item.get("is_new") else ""
        for name, value in item["metrics"].items():
            rows.append(
                f"<tr><td>set {item['index'] + 1}{new}</td><td>{item['rows']}</td>"
                f"<td>{escape(_NAMES.get(name, name))}</td><td>{_percent(value)}</td>"
                f"<td>{_percent(champion.get(name))}</td></tr>"
            )
    head = (
        "<th>held-out set</th><th>rows</th><th>measure</th><th>this version</th><th>champion</th>"
    )
    return _section("Held-out sets", _table(head, rows))


def _labels(labels: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(item['label'])}</td><td>{_percent(item['precision'])}</td>"
        f"<td>{_percent(item['recall'])}</td>{heat_cell(item['f1'], _percent(item['f1']))}"
        f"<td>{item['support']}</td></tr>"
        for item in sorted(labels, key=lambda item: (item["f1"], item["label"]))
    ]
    head = "<th>label</th><th>precision</th><th>recall</th><th>F1</th><th>rows</th>"
    return _section("Labels, the weakest first", _table(head, rows))


def _confusion(confusion: Mapping[str, Any] | None) -> str:
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
        head = "<th>expected</th>" + "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = [
            f"<tr><td>{escape(name)}</td>"
            + "".join(heat_cell(count / max(sum(row), 1), str(count)) for count in row)
            + "</tr>"
            for name, row in zip(names, matrix, strict=True)
        ]
        parts.append(_table(head, rows))
    if pairs:
        rows = [
            f'<tr><td>{escape(expected)}</td><td class="words">{escape(given)}</td>'
            f"<td>{count}</td></tr>"
            for count, expected, given in pairs[:_CONFUSIONS]
        ]
        parts.append(
            _table('<th>expected</th><th class="words">predicted</th><th>times</th>', rows)
        )
    return _section("Confusions", "".join(parts))


def _reliability(value: Mapping[str, Any] | None) -> str:
    if not value:
        return ""
    error = _percent(value["expected_calibration_error"])
    note = f'<p class="soft">Confidence and share right differ by {error} on average.</p>'
    return _section("Reliability of confidences", note + reliability_chart(value["bins"]))


def _facts(facts: Mapping[str, Any]) -> str:
    training, export = facts.get("training", {}), facts.get("export", {})
    lineage, model = facts.get("lineage", {}), facts.get("model", {})
    items = {
        "base model": model.get("base"),
        "pooling": model.get("pooling"),
        "token limit": model.get("max_tokens"),
        "calibration temperature": _number(model.get("temperature")),
        "new training records": lineage.get("records"),
        "training steps": training.get("steps"),
        "training seconds": _number(training.get("seconds")),
        "share of parameters trained": _percent(training.get("trained_share")),
        "seed": lineage.get("seed"),
        "label agreement of the export": _percent(export.get("label_agreement")),
        "largest difference of logits": _number(export.get("max_abs_difference")),
        "size of model.onnx": _megabytes(export.get("size_bytes")),
        "processor": ", ".join(model.get("processor", ())),
    }
    rows = [
        f'<tr><td>{escape(name)}</td><td class="words">{escape(str(value))}</td></tr>'
        for name, value in items.items()
        if value not in (None, "", "–")
    ]
    return _section("How it was made", _table("", rows))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: str, rows: Sequence[str]) -> str:
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{top}<tbody>{"".join(rows)}</tbody></table></div>'


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _megabytes(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.1f} MB"
