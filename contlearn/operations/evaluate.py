"""Measures of a version, as it is served, on its held-out sets or on a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from contlearn.context import Context
from contlearn.errors import RecordError
from contlearn.interfaces import Progress, no_progress
from contlearn.operations.chosen import chosen_version
from contlearn.papers.report import read_report
from contlearn.registry.loading import load_version
from contlearn.registry.versions import ModelVersion
from contlearn.types import HeldOutSet, LabelSpace

__all__ = ["evaluate_version"]

# Labels that a message names.
_SHOWN: Final = 5


def evaluate_version(
    context: Context,
    version: int | str | None = None,
    *,
    on: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Score a version on every held-out set of its lineage, or on the rows of a file.

    Returns:
        What `evaluate --json` prints; `unknown_label_rows` counts the rows with a label that the
        version does not know, which it can only answer wrong.
    Raises:
        RegistryError: When the version is missing or damaged.
        RecordError: When the file cannot be used, or the version knows the labels of none of its
            rows.
    """
    from contlearn.evaluation.evaluator import build_report, score_sets

    chosen = chosen_version(context, version)
    with load_version(context.registry, chosen, context.manager) as predictor:
        sets = _measured_sets(context, chosen, predictor.label_space, on)
        unknown = _unknown_labels(context, chosen, predictor.label_space, sets, on)
        scores = score_sets(
            predictor,
            sets,
            context.task,
            predictor.label_space,
            memory=None if on is not None else context.workspace.evaluations,
            version_key=f"version-{chosen.version}",
            progress=progress,
        )
    stored = None if on is not None else read_report(chosen.path)
    report = build_report(scores, sets, context.task, version=chosen.version, earlier=stored)
    value = report.to_json() | unknown
    if context.config.monitoring.slices:
        from contlearn.evaluation.text_slices import compare_text_slices

        given = [score.predictions for score in scores]
        value["text_slices"] = compare_text_slices(
            context.config.monitoring.slices, sets, given, context.task
        )
    return value


def _measured_sets(
    context: Context, version: ModelVersion, space: LabelSpace, on: Path | None
) -> tuple[HeldOutSet, ...]:
    """Read the held-out sets of a version's lineage, or the rows of a file.

    Raises:
        RecordError: When the file cannot be used, or there is no row.
    """
    from contlearn.cycle.held_out import read_held_out

    sets: tuple[HeldOutSet, ...]
    if on is not None:
        from contlearn.data.formats.reading import read_labelled

        records = read_labelled(
            context.config,
            context.manager,
            on,
            now=context.clock.now(),
            known_labels=sorted(context.task.label_names(space.names)),
        )
        sets = (HeldOutSet(experience=on.name, index=0, records=tuple(records)),)
    else:
        sets = read_held_out(
            context.workspace,
            context.catalog,
            version.manifest.lineage.experiences,
            capacity=context.config.gate.reserve_rows,
        )
    if not any(held_out.records for held_out in sets):
        raise RecordError(
            "There is no held-out row to measure on.",
            where=str(on or context.workspace.root),
            hint="Bring more records, or measure on a file of your own with --on FILE.",
        )
    return sets


def _unknown_labels(
    context: Context,
    version: ModelVersion,
    space: LabelSpace,
    sets: Sequence[HeldOutSet],
    on: Path | None,
) -> dict[str, Any]:
    """Count the rows with labels that a version does not know, and name the labels.

    Raises:
        RecordError: When there is no other row: such a measure says nothing of the version.
    """
    known = frozenset(context.task.label_names(space.names))
    missing: set[str] = set()
    rows = unknown = 0
    for record in (record for held_out in sets for record in held_out.records):
        new = set(context.task.labels_of(record.target)) - known
        rows, unknown = rows + 1, unknown + bool(new)
        missing |= new
    names = sorted(missing)
    if unknown and unknown == rows:
        raise RecordError(
            f"None of the {rows:,} rows has a label that version {version.version} knows: they "
            f"have {_some(names)}.",
            where=str(on or context.workspace.root),
            hint=f"It knows {_some(sorted(known))}. Check the column of labels, or map the names "
            "under [data.label_aliases] in contlearn.toml.",
        )
    return {"unknown_label_rows": unknown, "unknown_labels": names}


def _some(names: Sequence[str]) -> str:
    """Name the first labels of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
