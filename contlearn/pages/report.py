"""The report of a version as a page: one file, no script, no network.

Two pages are made of each version. `report.html` in the version's folder, which is never changed,
names records by their ids. `reports/<n>.html` shows their texts too, and `data forget` takes the
texts of forgotten records out of it again. All that comes from data is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from contlearn.cards import FORGOTTEN, record_card
from contlearn.pages.report_sections import (
    accuracy_matrix,
    confusions,
    counts,
    doubts,
    forgetting_curve,
    held_out_sets,
    latency,
    per_label,
    reliability_diagram,
    slices,
    table,
)
from contlearn.pages.style import STYLE
from contlearn.wording import megabytes, metric_name, number, percent
from contlearn.workspace import FileOperations, read_json, write_bytes_atomic

__all__ = [
    "REPORT_PAGE",
    "VERSION_MARK",
    "ShownRecord",
    "render_report",
    "shown_records",
    "with_changes",
    "with_version",
    "write_report_page",
]

REPORT_PAGE: Final = "report.html"
# Stands for the version's number in a page made before the number is known; see `with_version`.
VERSION_MARK: Final = "@VERSION@"
# The end of title and heading, with the mark or a number.
_NUMBER: Final = re.compile(rf", version (?:{VERSION_MARK}|\d+)(</title>|</h1>)")
# What became of the version since; the one part of a page that changes.
_CHANGES_START: Final = "<!-- what became of it -->"
_CHANGES_END: Final = "<!-- until here -->"
_CHANGES: Final = re.compile(rf"{_CHANGES_START}.*?{_CHANGES_END}", re.DOTALL)
_MAX_CHARACTERS: Final = 400
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# The text of a record, and its words where the task goes word by word.
ShownRecord = tuple[str, "tuple[str, ...] | None"]


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
        version=VERSION_MARK,
    )
    path = folder / REPORT_PAGE
    write_bytes_atomic(path, page.encode(), files=files or FileOperations())
    return path


def render_report(
    *,
    name: str,
    facts: Mapping[str, Any],
    report: Mapping[str, Any],
    decision: Mapping[str, Any],
    records: Mapping[str, ShownRecord] | None = None,
    version: str | None = None,
) -> str:
    """Write the page as HTML.

    Args:
        name: The model's name.
        facts: Parts of the manifest.
        report: What report.json holds.
        decision: What decision.json holds.
        records: The texts to show, by record id; without them rows are named by their ids.
        version: The version's number, or `VERSION_MARK`.
    """
    sections: list[tuple[str, str]] = [
        ("Decision", _decision(decision)),
        ("Accuracy matrix", accuracy_matrix(report)),
        ("Forgetting", forgetting_curve(report)),
        ("Held-out sets", held_out_sets(report)),
        ("Slices", slices(report)),
        ("Labels", per_label(report["per_label"])),
        ("Confusions", confusions(report.get("confusion"))),
        ("Reliability of confidences", reliability_diagram(report.get("reliability"))),
        ("Worst rows", _worst_rows(report.get("flips"), records)),
        ("Latency", latency(report.get("runtime"))),
        ("Labels in doubt", doubts(facts.get("doubted"))),
        ("Data", counts(report, facts)),
        ("How it was made", _making(facts)),
    ]
    there = [(title, body) for title, body in sections if body]
    links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title, _ in there)
    parts = [
        _head(name, version, facts, decision),
        f"{_CHANGES_START}{_CHANGES_END}",
        _figures(report),
        f"<nav>{links}</nav>",
        *(
            f'<section id="{_anchor(title)}"><h2>{escape(title)}</h2>{body}</section>'
            for title, body in there
        ),
    ]
    title = escape(_title(name, version))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def with_version(page: str, version: int) -> str:
    """Put the version's number where a page made before has the mark: title and heading.

    One that has a number there already, from before a kill, is given this one.
    """
    return _NUMBER.sub(rf", version {version}\1", page, count=2)


def with_changes(page: str, changes: Sequence[Mapping[str, Any]]) -> str:
    """Say in a page of a version when it became champion and when it gave way, and who did it.

    Args:
        page: What `render_report` made; one without the place for it stays as it is.
        changes: Entries of the journal, oldest first: each with `kind` (a sentence), `at`, `actor`,
            `reason`, `by_hand`.
    """
    rows = [
        f"<p><b>{escape(str(item['kind']))}</b> "
        f'<span class="soft">{escape(str(item["at"])[:16].replace("T", " "))} UTC, '
        f"{'by hand by' if item['by_hand'] else 'by'} {escape(str(item['actor'] or '–'))}"
        f"{': ' if item['reason'] else ''}{escape(str(item['reason'] or ''))}</span></p>"
        for item in changes
    ]
    inside = f'<div class="card">{"".join(rows)}</div>' if rows else ""
    return _CHANGES.sub(lambda _: f"{_CHANGES_START}{inside}{_CHANGES_END}", page, count=1)


def shown_records(report: Mapping[str, Any]) -> list[str]:
    """Give the ids of the records that a page of this report shows."""
    flips = report.get("flips") or {}
    return list(dict.fromkeys(item["record_id"] for kind in flips.values() for item in kind))


def _title(name: str, version: str | None) -> str:
    return f"{name}, version {version}" if version else f"{name}: a challenger"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _head(
    name: str, version: str | None, facts: Mapping[str, Any], decision: Mapping[str, Any]
) -> str:
    passed = bool(decision.get("promoted"))
    verdict = "The gate let it pass" if passed else "The gate refused it"
    champion = decision.get("champion")
    against = f"compared with version {champion}" if champion is not None else "the first version"
    lineage, model = facts.get("lineage", {}), facts.get("model", {})
    return (
        f"<header><h1>{escape(_title(name, version))}</h1>"
        f'<p><span class="verdict {"good" if passed else "bad"}">{verdict}</span> '
        f'<span class="soft">{escape(against)}</span></p>'
        f'<p class="soft">Cycle {escape(str(lineage.get("cycle", "–")))} · '
        f"{escape(str(model.get('task', '–')))} · {len(model.get('labels', ()))} outputs · "
        f"{escape(str(lineage.get('strategy', '–')))} · "
        f"{escape(str(model.get('precision', '–')))}</p></header>"
    )


def _figures(report: Mapping[str, Any]) -> str:
    before = report.get("champion_metrics") or {}
    primary = str(report.get("primary_metric", "accuracy"))
    cells = []
    for name, value in report["metrics"].items():
        change = ""
        if value is not None and before.get(name) is not None:
            gain = value - before[name]
            style = "soft" if abs(gain) < 5e-4 else "good" if gain > 0 else "bad"
            change = f'<span class="small {style}">{percent(gain, sign=True)} vs. champion</span>'
        cells.append(
            f"<div><b>{percent(value)}</b>{escape(metric_name(name, primary))}<br>{change}</div>"
        )
    return f'<section class="figures">{"".join(cells)}</section>'


def _decision(decision: Mapping[str, Any]) -> str:
    words = {True: ("good", "passed"), False: ("bad", "refused"), None: ("soft", "not applicable")}
    parts = [
        f'<p class="card bad">{escape(warning)}</p>' for warning in decision.get("warnings", ())
    ]
    # What refused comes first; the order of the rules stays otherwise.
    order = {False: 0, True: 1, None: 2}
    for outcome in sorted(decision.get("outcomes", ()), key=lambda item: order[item["passed"]]):
        style, word = words[outcome["passed"]]
        numbers = ""
        if outcome["measured"] is not None:
            numbers = f"measured {number(outcome['measured'])}"
        if outcome["required"] is not None:
            numbers += f"{', ' if numbers else ''}required {number(outcome['required'])}"
        # A warning that stands above is not said twice.
        said = outcome["message"] in decision.get("warnings", ())
        message = "" if said else f"<p>{escape(outcome['message'])}</p>"
        parts.append(
            f'<div class="rule"><b>{escape(outcome["rule"])}</b> '
            f'<span class="{style}">{word}</span> <span class="soft small">{numbers}</span>'
            f"{message}</div>"
        )
    return "".join(parts)


def _worst_rows(flips: Mapping[str, Any] | None, records: Mapping[str, ShownRecord] | None) -> str:
    titles = {
        "lost": "Right in the champion, wrong now; the most confident first",
        "wrong": "Wrong now, and not right before; the most confident first",
    }
    parts = []
    for kind, title in titles.items():
        items = (flips or {}).get(kind) or ()
        if items:
            cards = "".join(_card(item, records) for item in items)
            parts.append(f'<p class="soft">{title}.</p>{cards}')
    if parts and records is None:
        parts.insert(
            0,
            '<p class="soft">Records are named by their ids here; the page in the workspace\'s '
            "reports folder shows their texts.</p>",
        )
    return "".join(parts)


def _card(item: Mapping[str, Any], records: Mapping[str, ShownRecord] | None) -> str:
    shown = None if records is None else records.get(item["record_id"])
    text, words = shown if shown is not None else (None, None)
    if text is not None:
        cut = text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + " …"
        first = f'<p class="text" dir="auto">{_escape(cut)}</p>'
    elif records is not None:
        first = f'<p class="soft">{FORGOTTEN}</p>'
    else:
        first = f"<p><code>{escape(item['record_id'])}</code></p>"
    sure = "" if item.get("confidence") is None else f" ({percent(item['confidence'])} sure)"
    before = item.get("before")
    answers = [f"expected <b>{_answer(item['target'], words)}</b>"]
    if before is not None and before != item["target"]:
        answers.append(f"before <b>{_answer(before, words)}</b>")
    answers.append(f'now <b class="bad">{_answer(item["after"], words)}</b>{sure}')
    answers.append(f"set {int(item['set']) + 1}")
    body = f'{first}<p class="small">{" · ".join(answers)}</p>'
    return record_card(item["record_id"], body)


def _answer(answer: str | Sequence[str], words: tuple[str, ...] | None) -> str:
    """Write an answer: a class as it is, tags as the entities they mark."""
    if isinstance(answer, str):
        return f"<bdi>{_escape(answer)}</bdi>"
    spans: list[tuple[str, list[int]]] = []
    for place, tag in enumerate(answer):
        if tag.startswith("B-") or (tag.startswith("I-") and not (spans and spans[-1][1])):
            spans.append((tag[2:], [place]))
        elif tag.startswith("I-"):
            spans[-1][1].append(place)
    if not spans:
        return "no entity"
    if words is None or len(words) != len(answer):
        return ", ".join(f"<bdi>{_escape(kind)}</bdi>" for kind, _ in spans)
    return ", ".join(
        f"<bdi>{_escape(' '.join(words[i] for i in places))}</bdi> ({_escape(kind)})"
        for kind, places in spans
    )


def _making(facts: Mapping[str, Any]) -> str:
    training, export = facts.get("training", {}), facts.get("export", {})
    lineage, model = facts.get("lineage", {}), facts.get("model", {})
    options = lineage.get("strategy_options") or {}
    items = {
        "base model": model.get("base"),
        "pooling": model.get("pooling"),
        "token limit": model.get("max_tokens"),
        "calibration temperature": number(model.get("temperature")),
        "strategy": lineage.get("strategy"),
        "its options": json.dumps(options, ensure_ascii=False) if options else None,
        "settings that won the search": _settings(lineage.get("search")),
        "training steps": training.get("steps"),
        "training seconds": number(training.get("seconds")),
        "share of parameters trained": percent(training.get("trained_share")),
        "seed": lineage.get("seed"),
        "label agreement of the export": percent(export.get("label_agreement")),
        "largest difference of logits": number(export.get("max_abs_difference")),
        "size of model.onnx": megabytes(export.get("size_bytes")),
        "notes of the export": "; ".join(export.get("notes") or ()),
        "processor": ", ".join(model.get("processor", ())),
    }
    rows = [
        f'<tr><td>{escape(name)}</td><td class="words">{escape(str(value))}</td></tr>'
        for name, value in items.items()
        if value not in (None, "", "–")
    ]
    return table("", rows, style="facts")


def _settings(settings: Mapping[str, Any] | None) -> str | None:
    return ", ".join(f"{key} = {value}" for key, value in settings.items()) if settings else None


def _escape(text: str) -> str:
    """Escape a text of the data; characters that steer the page or the terminal become visible."""
    visible = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return escape(visible)
