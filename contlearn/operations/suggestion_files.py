"""Suggestions as files for labelling tools; `data.formats.tools` reads what comes back.

No file holds the model's guess where a person's answer belongs: the guess stands in a field of its
own, or where the tool itself keeps what models say. Every row is marked as a suggestion.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from contlearn.data.formats.tools import SUGGESTION
from contlearn.data.quarantine.looking import guard_cell
from contlearn.errors import UsageError
from contlearn.interfaces import FieldNames, Labelling, Task
from contlearn.tasks.spans import placed_words
from contlearn.workspace import narrowest, output_border, write_bytes_atomic

__all__ = ["FORMATS", "write_suggestions"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]


def write_suggestions(
    value: Mapping[str, Any],
    path: Path,
    style: str,
    fields: FieldNames | None = None,
    *,
    task: Task,
    came_from: Iterable[Path] = (),
    own: Iterable[Path] = (),
) -> None:
    """Write suggestions as a labelling tool reads them.

    Args:
        value: What `suggest_texts` gave.
        path: The file; it is replaced as a whole.
        style: One of `FORMATS`.
        fields: The configured names, for the forms that people fill in themselves.
        task: Says how a person answers it.
        came_from: The files with the texts: who may not read those may not read this.
        own: Folders that are contlearn's alone.
    Raises:
        UsageError: When the form cannot hold answers of the task, or nothing can be written there.
    """
    rows = value["suggestions"]
    holding = [name for name in FORMATS if task.labelling in _HOLDS[name]]
    if style not in holding:
        raise UsageError(
            f"The form {style} cannot hold answers of the task {task.name!r}.",
            where=f"--format {style}",
            hint=f"Write {' or '.join(holding)}; nothing was written.",
        )
    data = _STYLES[style](rows, value["version"], fields or FieldNames(), task).encode()
    with output_border(path, own):
        write_bytes_atomic(path, data, mode=narrowest(came_from))


def _words(row: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    tokens = row.get("tokens")
    return placed_words({"text": row["text"]} if tokens is None else {"tokens": tuple(tokens)})


def _lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _as_jsonl(rows: Rows, version: int, fields: FieldNames, task: Task) -> str:
    """Write rows of the workspace's own form, with nothing yet in the field of the answer."""
    answer = {fields.of(field.name): None for field in task.fields if field.is_target}
    words = task.labelling == "spans"
    return _lines(
        [
            {
                **row,
                "version": version,
                SUGGESTION: "jsonl",
                **row.get("inputs", {}),
                fields.text: row["text"],
                **({fields.tokens: [word for word, _, _ in _words(row)]} if words else {}),
                **answer,
            }
            for row in rows
        ]
    )


def _as_csv(rows: Rows, version: int, fields: FieldNames, task: Task) -> str:
    """Write a sheet with an empty column for the answer; no spreadsheet runs a cell of it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    others = ("predicted", "worth", "version", SUGGESTION)
    taken = (fields.text, *(fields.of(field.name) for field in task.fields if field.is_target))
    writer.writerow([*taken, *(name + "_" * (name in taken) for name in others)])
    for row in rows:
        cells = (guard_cell(row["text"]), "", guard_cell(_named(row, task)))
        writer.writerow([*cells, row["worth"], version, "csv"])
    return out.getvalue()


def _named(row: Mapping[str, Any], task: Task) -> str:
    """Give the guess in words."""
    cells = task.cells(row["prediction"])
    if task.labelling == "spans":
        found = [f"{cell['entity']}: {cell['type']}" for cell in cells if cell["type"]]
        return ", ".join(found)
    return str(next(iter(cells[0].values())))


def _as_label_studio(rows: Rows, version: int, _: FieldNames, task: Task) -> str:
    """Write tasks with predictions; the interface's tags are named label and text."""
    tasks = []
    for row in rows:
        prediction = row["prediction"]
        where = {"from_name": "label", "to_name": "text"}
        if task.labelling == "choice":
            result = [{**where, "type": "choices", "value": {"choices": [prediction["label"]]}}]
        else:
            result = [
                {
                    **where,
                    "type": "labels",
                    "value": {
                        "start": entity["start"],
                        "end": entity["end"],
                        "text": entity["text"],
                        "labels": [entity["type"]],
                    },
                }
                for entity in prediction["entities"]
            ]
        tasks.append(
            {
                "data": {
                    "text": row["text"],
                    **({"tokens": row["tokens"]} if "tokens" in row else {}),
                    "worth": row["worth"],
                    SUGGESTION: "label-studio",
                },
                "predictions": [
                    {
                        "model_version": str(version),
                        "score": 1 - row["uncertainty"],
                        "result": result,
                    }
                ],
            }
        )
    return json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def _as_doccano(rows: Rows, version: int, _: FieldNames, task: Task) -> str:
    """Write documents without labels: doccano cannot tell a guess from an answer."""
    return _lines(
        [
            {
                "text": row["text"],
                "label": [],
                **({"tokens": row["tokens"]} if "tokens" in row else {}),
                "predicted": _named(row, task),
                "worth": row["worth"],
                "version": version,
                SUGGESTION: "doccano",
            }
            for row in rows
        ]
    )


def _as_prodigy(rows: Rows, version: int, _: FieldNames, task: Task) -> str:
    """Write tasks to choose an option (view id choice), or to correct spans (ner.manual)."""
    tasks = []
    for row in rows:
        item: dict[str, Any] = {"text": row["text"]}
        if task.labelling == "spans":
            words = _words(row)
            item["tokens"] = [
                {"id": place, "text": word, "start": start, "end": end, "ws": ws}
                for place, (word, start, end, ws) in enumerate(_spaced(words))
            ]
            item["spans"] = [_prodigy_span(e, words) for e in row["prediction"]["entities"]]
        else:
            scores: Mapping[str, float] = row["prediction"]["scores"]
            best = sorted(scores, key=lambda name: (-scores[name], name))
            item["options"] = [{"id": name, "text": name} for name in best]
            item["accept"] = []
        item["meta"] = {"predicted": _named(row, task), "worth": row["worth"], "version": version}
        tasks.append({**item, SUGGESTION: "prodigy"})
    return _lines(tasks)


def _spaced(words: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int, bool]]:
    """Say of each word whether something stands between it and the next."""
    nexts = [start for _, start, _ in words[1:]]
    return [
        (word, start, end, place < len(nexts) and nexts[place] > end)
        for place, (word, start, end) in enumerate(words)
    ]


def _prodigy_span(
    entity: Mapping[str, Any], words: Sequence[tuple[str, int, int]]
) -> dict[str, Any]:
    inside = [
        place
        for place, (_, start, end) in enumerate(words)
        if entity["start"] <= start and end <= entity["end"]
    ]
    span = {"start": entity["start"], "end": entity["end"], "label": entity["type"]}
    return span | ({"token_start": inside[0], "token_end": inside[-1]} if inside else {})


_STYLES: Final[Mapping[str, Callable[[Rows, int, FieldNames, Task], str]]] = {
    "jsonl": _as_jsonl,
    "csv": _as_csv,
    "label-studio": _as_label_studio,
    "doccano": _as_doccano,
    "prodigy": _as_prodigy,
}
FORMATS: Final = tuple(_STYLES)
# How a person may answer in each form.
_HOLDS: Final[Mapping[str, frozenset[Labelling]]] = {
    "jsonl": frozenset(("choice", "spans", "value")),
    "csv": frozenset(("choice", "value")),
    "label-studio": frozenset(("choice", "spans")),
    "doccano": frozenset(("choice", "spans")),
    "prodigy": frozenset(("choice", "spans")),
}
