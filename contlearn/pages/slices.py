"""Slices of the held-out rows, added to a version's report before the gate and people see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from contlearn.interfaces import Task
from contlearn.monitoring.slices import slice_report
from contlearn.papers.report import REPORT, Comparison, read_report
from contlearn.types import HeldOutSet
from contlearn.workspace import (
    mode_of,
    storage_border,
    write_bytes_atomic,
    write_json_atomic,
)

__all__ = ["add_slices", "add_slices_to_page", "slices_of", "slices_section"]


def slices_of(
    slices: Mapping[str, str],
    sets: Sequence[HeldOutSet],
    answers: Sequence[Sequence[object]],
    task: Task,
) -> list[dict[str, Any]]:
    """Compare the slices over all held-out rows; classifications only, else nothing."""
    if "scores" not in task.gives:
        return []
    rows = [
        (task.text_of(record.inputs), record.source or "", answer, record.target)
        for held_out, given in zip(sets, answers, strict=True)
        for record, answer in zip(held_out.records, given, strict=True)
    ]
    if not slices or not rows:
        return []
    texts, sources, given_labels, targets = zip(*rows, strict=True)
    return slice_report(slices, texts, sources, given_labels, targets)


def add_slices(
    folder: Path, slices: Mapping[str, str], sets: Sequence[HeldOutSet], task: Task
) -> None:
    """Add `text_slices` to report.json of the version being built.

    Raises:
        StorageError: When it cannot be read or written.
    """
    from contlearn.evaluation.scoring import load_paired_scores

    if not slices:
        return
    pairs, _ = load_paired_scores(folder, task)
    found = slices_of(slices, sets, [p.challenger.predictions for p in pairs], task)
    report = read_report(folder)
    comparison = replace(report.comparison or Comparison(), text_slices=tuple(found))
    write_json_atomic(folder / REPORT, replace(report, comparison=comparison).to_json())


def add_slices_to_page(folder: Path, path: Path) -> None:
    """Add the slices of a version's report to a page of it, where there are some.

    Raises:
        StorageError: When either cannot be read or written.
    """
    comparison = read_report(folder).comparison
    slices = None if comparison is None else comparison.text_slices
    if not slices:
        return
    with storage_border("add slices to the page", path):
        page = path.read_text(encoding="utf-8")
        page = page.replace("</body>", slices_section(slices) + "\n</body>", 1)
        write_bytes_atomic(path, page.encode(), mode=mode_of(path))


def slices_section(slices: Sequence[Mapping[str, Any]]) -> str:
    """Write slices as a part of a version's page."""
    rows = []
    for item in slices:
        if "accuracy" not in item:
            rows.append(
                f"<tr><td>{escape(item['slice'])}</td><td>{item['rows']}</td>"
                '<td class="words">too few rows</td></tr>'
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
    return (
        '<section><h2>Slices by text</h2><p class="soft">Held-out rows of named slices against all '
        'others.</p><div class="wide"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )
