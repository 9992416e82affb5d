"""Predictions and evaluations of a version, as it is served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.arguments import require_several
from contlearn.context import Context
from contlearn.errors import RecordError, RegistryError, UsageError
from contlearn.interfaces import Progress, RowProblem, no_progress
from contlearn.papers.report import read_report
from contlearn.registry.aliases import resolve_version
from contlearn.registry.versions import ModelVersion
from contlearn.types import HeldOutSet, Inputs, LabelSpace

if TYPE_CHECKING:
    from contlearn.inference.predictor import OnnxPredictor

__all__ = ["chosen_version", "evaluate_version", "load_version", "predict_texts", "read_lines"]

# Labels that a message names.
_SHOWN: Final = 5


def chosen_version(context: Context, version: int | str | None) -> ModelVersion:
    """Give the version that was named by number or alias, or the champion.

    Raises:
        RegistryError: When it is not there, or nothing was promoted yet.
    """
    number = (
        context.registry.champion()
        if version is None
        else resolve_version(context.registry, version)
    )
    if number is None:
        raise RegistryError(
            "No version was promoted yet.",
            where=str(context.workspace.versions),
            hint="Run `contlearn update` first, or name a version.",
        )
    return context.registry.get(number)


def load_version(context: Context, version: ModelVersion) -> OnnxPredictor:
    """Load a version out of the registry, as a server would."""
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.inference.signature import require_signature

    public_key = context.workspace.key(context.config.signing.public_key)
    if public_key is not None:
        require_signature(version.path, public_key)
    threads = context.config.serving.threads
    return OnnxPredictor.load(version.path / "onnx", manager=context.manager, threads=threads)


def read_lines(path: Path) -> list[str]:
    """Read one text a line; empty lines are left out.

    Raises:
        RecordError: When the file is not there or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecordError(
            f"The file cannot be read: {error.strerror}.", where=str(path), hint="Check its name."
        ) from error
    except UnicodeDecodeError as error:
        raise RecordError(
            "The file is not UTF-8.", where=str(path), hint="Save it as UTF-8, one text a line."
        ) from error
    return [line for line in text.split("\n") if line.strip()]


def _inputs(context: Context, texts: Iterable[str]) -> list[Inputs]:
    """Take bare texts, or JSON objects with the fields of a row, one each."""
    fields = context.config.data.field_names()
    inputs = []
    for number, text in enumerate(texts, 1):
        row: Any = text
        if text.lstrip().startswith("{"):
            try:
                row = json.loads(text)
            except ValueError:
                row = text
        try:
            inputs.append(context.task.read_inputs(row, fields))
        except RowProblem as problem:
            raise UsageError(
                f"Text {number} cannot be predicted: {problem.message}",
                where=f"text {number}",
                hint=problem.hint,
            ) from problem
    return inputs


def predict_texts(
    context: Context,
    texts: Sequence[str],
    *,
    version: int | str | None = None,
    explain: bool = False,
) -> dict[str, Any]:
    """Predict texts with the champion or another version, in this process.

    Args:
        context: The opened workspace.
        texts: Bare texts, or JSON objects with the fields of a row.
        version: Another version than the champion.
        explain: Also weigh each word, by leaving it out and asking again.

    Returns:
        `version` and one prediction per text, as `predict --json` prints them.
    Raises:
        RegistryError: When the version is missing or damaged.
        UsageError: When a text is empty, or there is none, or one is given outside a list, or it
            cannot be explained.
    """
    require_several(texts, what="text", where="predict_texts")
    if not texts:
        raise UsageError(
            "There is no text to predict.",
            where="predict",
            hint="Give texts as arguments, or a file with --file (- reads standard input).",
        )
    inputs = _inputs(context, texts)
    chosen = chosen_version(context, version)
    predictor = load_version(context, chosen)
    rows: list[dict[str, Any]] = []
    flags = context.task.schema().get("properties", {})
    for answer in predictor.predict_detailed(inputs):
        rows.append(answer.prediction.to_json())
        if answer.truncated and "truncated" in flags:
            rows[-1]["truncated"] = True
    if explain:
        from contlearn.inference.attribution import explain_texts

        if "scores" not in context.task.gives:
            raise UsageError(
                f"Answers of the task {context.config.model.task!r} cannot be explained by words.",
                where="predict --explain",
                hint="Only classifications can; leave --explain out.",
            )
        asked = [context.task.text_of(item) for item in inputs]
        for row, explanation in zip(rows, explain_texts(predictor, asked), strict=True):
            row["explanation"] = explanation.to_json()
    return {"version": chosen.version, "predictions": rows}


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
    from contlearn.cycle.held_out import read_held_out
    from contlearn.evaluation.evaluator import build_report, score_sets

    chosen = chosen_version(context, version)
    predictor = load_version(context, chosen)
    sets: tuple[HeldOutSet, ...]
    if on is not None:
        from contlearn.data.formats.reading import read_labelled

        records = read_labelled(
            context.config,
            context.manager,
            on,
            now=context.clock.now(),
            known_labels=sorted(context.task.label_names(predictor.label_space.names)),
        )
        sets = (HeldOutSet(experience=on.name, index=0, records=tuple(records)),)
    else:
        sets = read_held_out(
            context.workspace,
            context.catalog,
            chosen.manifest.lineage.experiences,
            capacity=context.config.gate.reserve_rows,
        )
    if not any(held_out.records for held_out in sets):
        raise RecordError(
            "There is no held-out row to measure on.",
            where=str(on or context.workspace.root),
            hint="Bring more records, or measure on a file of your own with --on FILE.",
        )
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
