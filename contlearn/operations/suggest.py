"""Texts worth labelling, from a file or from what the server was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contlearn.context import Context
from contlearn.errors import UsageError
from contlearn.interfaces import Progress, RowProblem, no_progress
from contlearn.operations.chosen import chosen_version
from contlearn.operations.predict import read_lines, read_row
from contlearn.registry.loading import load_version
from contlearn.tasks.rows import normal_text
from contlearn.types import Inputs

__all__ = ["suggest_texts"]

# The newest texts that are looked at; the rest is older news.
_MOST: Final = 20_000
_AT_ONCE: Final = 512


def suggest_texts(
    context: Context,
    *,
    source: Path | None,
    count: int,
    version: int | str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Choose the texts that are most worth a label.

    Args:
        context: The workspace.
        source: Unlabelled texts, one text or JSON object a line; the server's log if left out.
        count: How many at most.
        version: Whose judgement; the champion's if left out.
        progress: Told after each part.
    Returns:
        `suggestions` (the most worth first), `considered`, `known`, `unreadable`, `version`.
    Raises:
        UsageError: When there are no texts to choose from.
        RegistryError: When there is no such version.
    """
    import numpy as np

    from contlearn.monitoring.suggestion import choose, ranks, strangeness, uncertainty

    chosen = chosen_version(context, version)
    inputs, unreadable = _readable(context, _source_rows(context, source))
    new, known = _unknown_ones(context, inputs)
    if not new:
        raise UsageError(
            "There is no text that is not labelled yet."
            if known
            else "There are no texts to choose from.",
            where=str(source or context.workspace.predictions),
            hint="Name a file of texts with --from, or keep the texts that the server is asked "
            "with monitoring.log_text = true.",
        )
    answers = []
    with load_version(context.registry, chosen, context.manager) as predictor:
        for start in range(0, len(new), _AT_ONCE):
            answers += predictor.predict_detailed(new[start : start + _AT_ONCE])
            progress("predicting", len(answers), len(new), "")
        temperature = predictor.temperature
    unsure = [uncertainty(answer.logits, temperature) for answer in answers]
    strange = [strangeness(answer.logits, temperature) for answer in answers]
    worth = 0.5 * ranks(unsure) + 0.5 * ranks(strange)
    vectors = np.stack(
        [
            answer.projection if len(answer.projection) else np.atleast_2d(answer.logits).mean(0)
            for answer in answers
        ]
    ).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    suggestions = [
        {
            "text": context.task.text_of(new[place]),
            **({"tokens": list(new[place]["tokens"])} if "tokens" in new[place] else {}),
            "worth": round(float(worth[place]), 4),
            "uncertainty": round(unsure[place], 4),
            "novelty": round(float(ranks(strange)[place]), 4),
            "prediction": answers[place].prediction.to_json(),
        }
        for place in choose(worth, vectors, count)
    ]
    return {
        "suggestions": suggestions,
        "considered": len(new),
        "known": known,
        "unreadable": unreadable,
        "version": chosen.version,
    }


def _source_rows(context: Context, source: Path | None) -> Iterator[Any]:
    if source is not None:
        for line in read_lines(source):
            yield read_row(line)
        return
    from contlearn.monitoring.prediction_log import read_predictions

    for logged in read_predictions(context.workspace.predictions, newest=_MOST):
        if isinstance(logged.get("text"), str):
            yield logged["text"]


def _readable(context: Context, rows: Iterator[Any]) -> tuple[list[Inputs], int]:
    """Read what can be read, each text once."""
    fields = context.config.data.field_names()
    found: dict[str, Inputs] = {}
    unreadable = 0
    for row in rows:
        if len(found) >= _MOST:
            break
        try:
            inputs = context.task.read_inputs(row, fields)
        except RowProblem:
            unreadable += 1
            continue
        if len(context.task.text_of(inputs)) > context.config.data.limits.text_characters:
            unreadable += 1
            continue
        found.setdefault(normal_text(context.task.text_of(inputs)), inputs)
    return list(found.values()), unreadable


def _unknown_ones(context: Context, inputs: Sequence[Inputs]) -> tuple[list[Inputs], int]:
    """Leave out the texts that have a label already."""
    import numpy as np

    from contlearn.data.intake.checking import text_digest
    from contlearn.data.intake.known import known_records
    from contlearn.data.intake.resolve import DIGEST

    digests = [text_digest(context.task.normal_of(item)) for item in inputs]
    # A label is not asked for: any target will do.
    rows = np.frombuffer(b"".join(digest + bytes(4) for digest in digests), dtype=DIGEST)
    catalog = context.catalog
    with catalog.read() as connection:
        known = {bytes.fromhex(r.text) for r in known_records(connection, catalog.ids, rows)}
    new = [item for item, digest in zip(inputs, digests, strict=True) if digest not in known]
    return new, len(inputs) - len(new)
