"""Predictions of a version, as it is served."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contlearn.arguments import require_several
from contlearn.context import Context
from contlearn.errors import RecordError, UsageError
from contlearn.interfaces import RowProblem
from contlearn.operations.chosen import chosen_version
from contlearn.registry.loading import load_version
from contlearn.types import Inputs

__all__ = ["predict_texts", "read_lines", "read_row"]


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


def read_row(line: str) -> Any:
    """Read a line as a JSON object with the fields of a row, or else as a bare text.

    Example:
        >>> read_row('{"text": "hello"}'), read_row("{hello")
        ({'text': 'hello'}, '{hello')
    """
    if line.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return line


def _inputs(context: Context, texts: Iterable[str]) -> list[Inputs]:
    """Take bare texts, or JSON objects with the fields of a row, one each."""
    fields = context.config.data.field_names()
    inputs = []
    for number, text in enumerate(texts, 1):
        try:
            inputs.append(context.task.read_inputs(read_row(text), fields))
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
    if explain and "scores" not in context.task.gives:
        raise UsageError(
            f"Answers of the task {context.config.model.task!r} cannot be explained by words.",
            where="predict --explain",
            hint="Only classifications can; leave --explain out.",
        )
    rows: list[dict[str, Any]] = []
    flags = context.task.schema().get("properties", {})
    with load_version(context.registry, chosen, context.manager) as predictor:
        for answer in predictor.predict_detailed(inputs):
            rows.append(answer.prediction.to_json())
            if answer.truncated and "truncated" in flags:
                rows[-1]["truncated"] = True
        if explain:
            from contlearn.inference.attribution import explain_inputs

            for row, explanation in zip(rows, explain_inputs(predictor, inputs), strict=True):
                row["explanation"] = explanation.to_json()
    return {"version": chosen.version, "predictions": rows}
