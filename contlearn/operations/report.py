"""Pages for people: the history of the model, or one version with its worst flips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contlearn.context import Context
from contlearn.errors import EvaluationError
from contlearn.evaluation.flips import flip_of
from contlearn.operations.chosen import chosen_version
from contlearn.papers.scores import Scores, read_scores
from contlearn.registry.versions import ModelVersion
from contlearn.workspace import output_border, storage_border, write_bytes_atomic

__all__ = ["report_all", "report_version", "worst_flips"]


def report_all(context: Context, output: Path | None = None) -> dict[str, Any]:
    """Write the history of the model as one page.

    Returns:
        What `contlearn report --json` prints: `path`, `size_bytes`, `versions`.
    Raises:
        StorageError: When the page cannot be written.
    """
    from contlearn.operations.overview import read_overview
    from contlearn.pages.overview import render_overview

    value = read_overview(context)
    path = _write(context, output, "history.html", render_overview(value))
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "versions": len(value["versions"]),
    }


def report_version(
    context: Context, version: int | str | None, output: Path | None = None, *, flips: int = 0
) -> dict[str, Any]:
    """Write the page of a version, or of the champion, with the texts that are still there.

    Returns:
        `path`, `size_bytes`, `version`, and `flips` as in `worst_flips`.
    Raises:
        RegistryError: When there is no such version.
        StorageError: When the page cannot be written, or the version has none.
    """
    from contlearn.pages.version_page import make_report

    chosen = chosen_version(context, version)
    found = worst_flips(context, chosen, flips) if flips else None
    with storage_border("write the page", output or context.workspace.reports):
        path = make_report(context, chosen.version, output=output, flips=found)
    path = path.absolute()
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "version": chosen.version,
        "flips": found or [],
    }


def worst_flips(context: Context, version: ModelVersion, most: int) -> list[dict[str, Any]]:
    """Find held-out rows that the champion before had right and this version has not.

    The surest wrong answers come first, each with the words that speak for and against it. Texts
    that were forgotten since are left out.

    Raises:
        EvaluationError: When the answers of the version cannot be explained.
        RegistryError: When the version is not signed, and has to be.
        StorageError: When the answers are missing or damaged.
    """
    from contlearn.data.store import read_records
    from contlearn.inference.attribution import explain_input
    from contlearn.registry.loading import load_version

    if "scores" not in context.task.gives:
        raise EvaluationError(
            "Only classifications can be explained by words.",
            where="report --flips",
            hint="Leave --flips out.",
        )
    candidates = _broken(read_scores(version.path))
    if not candidates:
        return []
    records = {
        record.record_id: record
        for record in read_records(
            context.workspace, context.catalog, [c["record_id"] for c in candidates[: 4 * most]]
        )
    }
    found: list[dict[str, Any]] = []
    with load_version(context.registry, version, context.manager) as predictor:
        for item in candidates:
            record = records.get(item["record_id"])
            if record is None:
                continue
            explanation = explain_input(predictor, record.inputs, label=item["answer"]).to_json()
            text = context.task.text_of(record.inputs)
            found.append({**item, "text": text, "explanation": explanation})
            if len(found) == most:
                break
    return found


def _broken(scores: Scores) -> list[dict[str, Any]]:
    """Give the rows that went from right to wrong, the surest first."""
    rows: list[dict[str, Any]] = []
    for item in scores.sets:
        if item.champion is None:
            continue
        mine, theirs = item.challenger, item.champion
        sure = mine.confidences or (0.0,) * len(item.targets)
        for record_id, target, answer, before, confidence in zip(
            item.record_ids, item.targets, mine.targets, theirs.targets, sure, strict=True
        ):
            if flip_of(target, before, answer) == "broken":
                rows.append(
                    {
                        "record_id": record_id,
                        "set": item.index + 1,
                        "expected": target,
                        "answer": answer,
                        "confidence": confidence,
                    }
                )
    rows.sort(key=lambda row: (-row["confidence"], row["record_id"]))
    return rows


def _write(context: Context, output: Path | None, name: str, page: str) -> Path:
    path = output or context.workspace.reports / name
    with storage_border("write the page", path):
        if output is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with output_border(path, context.workspace.own_folders(context.config)):
            write_bytes_atomic(path, page.encode(), mode=context.workspace.text_mode())
    return path.absolute()
