"""The report of a version as a page: one file, no script, no network.

Two pages are made of each version. `report.html` in the version's folder, which is never changed,
names records by their ids. `reports/<n>.html` shows their texts too, and `data forget` takes the
texts of forgotten records out of it again. All that comes from data is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from contlearn.cards import FORGOTTEN, record_card
from contlearn.evaluation.making import how_it_was_made
from contlearn.interfaces import Task
from contlearn.pages.flips import worst_flips
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
    text_slices,
)
from contlearn.pages.style import html_page
from contlearn.pages.tables import change, table
from contlearn.papers.decision import read_decision
from contlearn.papers.manifest import VersionFacts
from contlearn.papers.report import Comparison, EvaluationReport, Flip, read_report
from contlearn.types import PromotionDecision, Target, Verdict
from contlearn.wording import amount, metric_name, moment, number, percent
from contlearn.workspace import FileOperations, write_bytes_atomic

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
_VERDICTS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "promoted": ("good", "The gate let it pass"),
    "refused": ("bad", "The gate refused it"),
    "kept": ("warn", "It was not worth the change: the records are kept for the next update"),
}
_CHANGES_START: Final = "<!-- what became of it -->"
_CHANGES_END: Final = "<!-- until here -->"
_CHANGES: Final = re.compile(rf"{_CHANGES_START}.*?{_CHANGES_END}", re.DOTALL)
_MAX_CHARACTERS: Final = 400
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# The text of a record, and its words where the task goes word by word.
ShownRecord = tuple[str, "tuple[str, ...] | None"]


def write_report_page(
    folder: Path, *, name: str, task: Task, facts: VersionFacts, files: FileOperations | None = None
) -> Path:
    """Write report.html into a version folder, from its report.json and decision.json.

    Args:
        folder: The version being built.
        name: The model's name.
        task: Writes its answers.
        facts: What is known of it.
        files: How files are changed.
    Returns:
        The page.
    Raises:
        StorageError: When a report is missing or the page cannot be written.
    """
    page = render_report(
        name=name,
        task=task,
        facts=facts,
        report=read_report(folder),
        decision=read_decision(folder),
        version=VERSION_MARK,
    )
    path = folder / REPORT_PAGE
    write_bytes_atomic(path, page.encode(), files=files or FileOperations())
    return path


def render_report(
    *,
    name: str,
    task: Task,
    facts: VersionFacts,
    report: EvaluationReport,
    decision: PromotionDecision,
    records: Mapping[str, ShownRecord] | None = None,
    version: str | None = None,
    flips: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Write the page as HTML.

    Args:
        name: The model's name.
        task: Writes its answers.
        facts: What is known of it.
        report: What was measured.
        decision: What the gate said.
        records: The texts to show, by record id; without them rows are named by their ids.
        version: The version's number, or `VERSION_MARK`.
        flips: Flips with the words that decided; a section for them only where they were asked for.
    """
    beside = report.comparison or Comparison()
    sections: list[tuple[str, str]] = [
        ("Decision", _decision(decision)),
        ("Accuracy matrix", accuracy_matrix(report)),
        ("Forgetting", forgetting_curve(report)),
        ("Held-out sets", held_out_sets(report)),
        ("Slices", slices(report)),
        ("Labels", per_label(report.per_label)),
        ("Confusions", confusions(report.confusion)),
        ("Reliability of confidences", reliability_diagram(beside.reliability)),
        ("Worst rows", _worst_rows(task, beside.flips, records)),
        ("Latency", latency(beside.runtime)),
        ("Labels in doubt", doubts(facts.doubted)),
        ("Data", counts(report, facts)),
        ("How it was made", _making(facts)),
        ("Slices by text", text_slices(report)),
        ("Worst flips", worst_flips(flips)),
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
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    return html_page(_title(name, version), "\n".join(parts), head=policy)


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
        f'<span class="soft">{escape(moment(item["at"]))} UTC, '
        f"{'by hand by' if item['by_hand'] else 'by'} {escape(str(item['actor'] or '–'))}"
        f"{': ' if item['reason'] else ''}{escape(str(item['reason'] or ''))}</span></p>"
        for item in changes
    ]
    inside = f'<div class="card">{"".join(rows)}</div>' if rows else ""
    return _CHANGES.sub(lambda _: f"{_CHANGES_START}{inside}{_CHANGES_END}", page, count=1)


def shown_records(report: EvaluationReport) -> list[str]:
    """Give the ids of the records that a page of this report shows."""
    flips = {} if report.comparison is None else report.comparison.flips
    return list(dict.fromkeys(item.record_id for kind in flips.values() for item in kind))


def _title(name: str, version: str | None) -> str:
    return f"{name}, version {version}" if version else f"{name}: a challenger"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _head(name: str, version: str | None, facts: VersionFacts, decision: PromotionDecision) -> str:
    style, verdict = _VERDICTS[decision.verdict]
    champion = decision.champion
    against = f"compared with version {champion}" if champion is not None else "the first version"
    lineage, model = facts.lineage, facts.model
    return (
        f"<header><h1>{escape(_title(name, version))}</h1>"
        f'<p><span class="verdict {style}">{verdict}</span> '
        f'<span class="soft">{escape(against)}</span></p>'
        f'<p class="soft">Cycle {escape(lineage.cycle or "–")} · '
        f"{escape(model.task or '–')} · {len(model.labels)} outputs · "
        f"{escape(lineage.strategy or '–')} · "
        f"{escape(model.precision or '–')}</p></header>"
    )


def _figures(report: EvaluationReport) -> str:
    before = (report.comparison or Comparison()).champion_metrics or {}
    cells = []
    for name, value in report.metrics.items():
        note, metric = "", report.measure(name)
        if value is not None and before.get(name) is not None:
            style, moved = change(value, before[name], metric)
            note = f'<span class="small {style}">{moved} vs. champion</span>'
        cells.append(
            f"<div><b>{amount(value, metric)}</b>"
            f"{escape(metric_name(name, report.primary_metric))}<br>{note}</div>"
        )
    return f'<section class="figures">{"".join(cells)}</section>'


def _decision(decision: PromotionDecision) -> str:
    styles = {True: "good", False: "bad", None: "soft"}
    parts = [f'<p class="card bad">{escape(warning)}</p>' for warning in decision.warnings]
    # What refused comes first, then what was not worth it; the rules' order stays otherwise.
    order = {False: 1, True: 2, None: 3}
    for outcome in sorted(
        decision.outcomes, key=lambda item: 0 if item.refuses else order[item.passed]
    ):
        numbers = ""
        if outcome.measured is not None:
            numbers = f"measured {number(outcome.measured)}"
        if outcome.required is not None:
            numbers += f"{', ' if numbers else ''}required {number(outcome.required)}"
        style = "warn" if outcome.is_not_worth else styles[outcome.passed]
        # A warning that stands above is not said twice.
        said = outcome.message in decision.warnings
        message = "" if said else f"<p>{escape(outcome.message)}</p>"
        parts.append(
            f'<div class="rule"><b>{escape(outcome.rule)}</b> '
            f'<span class="{style}">{outcome.verdict}</span> '
            f'<span class="soft small">{numbers}</span>{message}</div>'
        )
    return "".join(parts)


def _worst_rows(
    task: Task, flips: Mapping[str, Sequence[Flip]], records: Mapping[str, ShownRecord] | None
) -> str:
    titles = {
        "lost": "Right in the champion, wrong now; the most confident first",
        "wrong": "Wrong now, and not right before; the most confident first",
    }
    parts = []
    for kind, title in titles.items():
        items = flips.get(kind, ())
        if items:
            cards = "".join(_card(task, item, records) for item in items)
            parts.append(f'<p class="soft">{title}.</p>{cards}')
    if parts and records is None:
        parts.insert(
            0,
            '<p class="soft">Records are named by their ids here; the page in the workspace\'s '
            "reports folder shows their texts.</p>",
        )
    return "".join(parts)


def _card(task: Task, item: Flip, records: Mapping[str, ShownRecord] | None) -> str:
    shown = None if records is None else records.get(item.record_id)
    text, words = shown if shown is not None else (None, None)
    if text is not None:
        cut = text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + " …"
        first = f'<p class="text" dir="auto">{_escape(cut)}</p>'
    elif records is not None:
        first = f'<p class="soft">{FORGOTTEN}</p>'
    else:
        first = f"<p><code>{escape(item.record_id)}</code></p>"
    sure = "" if item.confidence is None else f" ({percent(item.confidence)} sure)"
    answers = [f"expected <b>{_answer(task, item.target, words)}</b>"]
    if item.before is not None and item.before != item.target:
        answers.append(f"before <b>{_answer(task, item.before, words)}</b>")
    answers.append(f'now <b class="bad">{_answer(task, item.after, words)}</b>{sure}')
    answers.append(f"set {item.set + 1}")
    body = f'{first}<p class="small">{" · ".join(answers)}</p>'
    return record_card(item.record_id, body)


def _answer(task: Task, answer: Target, words: tuple[str, ...] | None) -> str:
    return f"<bdi>{_escape(task.shown(answer, words))}</bdi>"


def _making(facts: VersionFacts) -> str:
    rows = [
        f'<tr><td>{escape(name)}</td><td class="words">{escape(value)}</td></tr>'
        for name, value in how_it_was_made(facts).items()
    ]
    return table("", rows, style="facts")


def _escape(text: str) -> str:
    """Escape a text of the data; characters that steer the page or the terminal become visible."""
    visible = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return escape(visible)
