"""Rows as labelling tools give them back: what a person answered, and what nobody did.

`contlearn suggest` marks every row it writes with the field `contlearn_suggestion`, which holds the
form it was written in. The tools keep fields that they do not know, so a row that comes back tells
what it was; it counts once a person has answered in the tool's own way:

    Prodigy        "answer": "accept", with `label`, `accept` or `spans`; reject and ignore never
    Label Studio   an annotation that was not skipped; predictions never
    doccano        a label in the list, which is written empty
    JSON lines     the label, or the tags
    CSV            the cell of the label; the apostrophe that guards a cell is taken away
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contlearn.data.quarantine.looking import unguard_cell
from contlearn.interfaces import FieldNames, Labelling, RowProblem, Task
from contlearn.tasks.others import read_choices
from contlearn.tasks.spans import placed_words, tags_on_words

__all__ = ["SUGGESTION", "TOOL_FIELDS", "read_answer"]

SUGGESTION: Final = "contlearn_suggestion"
# A row with none of these is no row of a tool.
TOOL_FIELDS: Final = frozenset(
    (
        SUGGESTION,
        "answer",
        "annotations",
        "predictions",
        "was_cancelled",
        "lead_time",
        "status",
        "meta",
    )
)
_UNANSWERED_HINT: Final = "Answer it in the tool, or leave it out; nothing is learnt from a guess."
# What Argilla calls a record without a submitted answer, and fields by which its rows are known.
_ARGILLA_OPEN: Final = frozenset(("default", "draft", "pending", "discarded"))
_ARGILLA: Final = frozenset(
    ("annotation_agent", "prediction_agent", "event_timestamp", "multi_label", "_server_id")
)

Row = Mapping[str, object]


def read_answer(row: Row, fields: FieldNames, task: Task) -> Row:
    """Give what a person answered as a row under the configured names.

    Args:
        row: A row with one of `TOOL_FIELDS`; one that no tool wrote is given back as it is.
        fields: The configured names.
        task: Says how a person answers it: by a choice, by spans, or by a value.
    Raises:
        RowProblem: not-answered, rejected-answer or conflict; bad-span where an entity fits no
            words.
    """
    labelling = task.labelling
    answer = _word(row.get("answer"))
    if answer == "reject":
        raise RowProblem(
            "rejected-answer",
            'A person rejected this row ("answer": "reject"): its label is not the right one.',
            'Give it the right label and set "answer" to "accept", or leave it out.',
        )
    if answer == "ignore":
        raise _not_answered('A person passed over this row ("answer": "ignore").')
    if _word(row.get("was_cancelled")) == "true":
        raise _not_answered("A person skipped this row (was_cancelled).")
    status = _word(row.get("status"))
    if status in _ARGILLA_OPEN and not _ARGILLA.isdisjoint(row):
        raise _not_answered(f"The row has no submitted answer (status: {status}).")
    listed = row.get("annotations", row.get("predictions"))
    if labelling != "value" and isinstance(listed, list) and isinstance(row.get("data"), Mapping):
        return _of_label_studio(row, fields, labelling=labelling)
    form = row.get(SUGGESTION)
    if form is None and answer != "accept" and _is_old_suggestion(row):
        form = "prodigy"
    if (form is not None or answer == "accept") and fields.text not in row and "text" in row:
        row = {**row, fields.text: row["text"]}
    if form == "csv":
        row = {name: _unguarded(value) for name, value in row.items()}
    if form == "prodigy" and answer != "accept":
        raise _not_answered("The row is a suggestion that nobody answered.")
    if labelling == "value":
        pass  # the row's own field holds the answer: no tool has another place for it
    elif answer == "accept":
        row = _of_prodigy(row, fields, labelling=labelling)
    elif form is not None or "lead_time" in row:
        row = _with_label(row, fields, labelling=labelling)
    answers = [row.get(fields.of(field.name)) for field in task.fields if field.is_target]
    if form is not None and all(map(_is_empty, answers)):
        raise _not_answered("The row is a suggestion that nobody answered.")
    return row


def _not_answered(what: str) -> RowProblem:
    return RowProblem("not-answered", what, _UNANSWERED_HINT)


def _word(value: object) -> str:
    """Give a short text or a truth value in one spelling."""
    return str(value).strip().lower() if isinstance(value, str | bool) else ""


def _unguarded(value: object) -> object:
    return unguard_cell(value) if isinstance(value, str) else value


def _is_empty(value: object) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _is_old_suggestion(row: Row) -> bool:
    """Say whether a row is a suggestion for Prodigy as former versions wrote it, without a mark."""
    meta = row.get("meta")
    return isinstance(meta, Mapping) and meta.keys() == {"worth", "version"}


def _of_prodigy(row: Row, fields: FieldNames, *, labelling: Labelling) -> Row:
    """Read an accepted row of Prodigy: a label, chosen options, or spans."""
    if labelling == "spans":
        spans = row.get("spans")
        return row if not isinstance(spans, list) else _tagged(row, spans, fields)
    chosen = row.get("accept")
    if isinstance(chosen, list):
        if not chosen:
            raise _not_answered("The row was accepted without any option chosen.")
        return {**row, fields.label: chosen[0] if len(chosen) == 1 else chosen}
    return row


def _with_label(row: Row, fields: FieldNames, *, labelling: Labelling) -> Row:
    """Read what a tool exports as one field `label`: a name, a list of one, or spans."""
    value = row.get(fields.label, row.get("label"))
    if labelling == "spans":
        if not _is_empty(row.get(fields.tags)) or _is_empty(value):
            return row
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return row
        return _tagged(row, value, fields) if isinstance(value, list) else row
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return row if value is None else {**row, fields.label: value}


def _of_label_studio(row: Row, fields: FieldNames, *, labelling: Labelling) -> Row:
    """Read a task of Label Studio's JSON: its data, and what its annotators agree on."""
    data: Mapping[str, Any] = row["data"]  # type: ignore[assignment] # checked by the caller
    annotations: Sequence[Any] = row.get("annotations", ())  # type: ignore[assignment] # as above
    answers: list[list[Any]] = []
    for annotation in annotations:
        if not isinstance(annotation, Mapping):
            continue
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            continue
        values = [
            item["value"]
            for item in annotation.get("result") or ()
            if isinstance(item, Mapping) and isinstance(item.get("value"), Mapping)
        ]
        if labelling == "spans":
            answers.append([value for value in values if "labels" in value])
        elif chosen := [name for value in values for name in read_choices(value) or ()]:
            answers.append(chosen)
    if not answers:
        skipped = "was skipped" if annotations else "has no annotation"
        raise _not_answered(f"The task {skipped}.")
    if labelling == "spans":
        read = [_tagged(data, spans, fields) for spans in answers]
        if any(other[fields.tags] != read[0][fields.tags] for other in read[1:]):
            raise _disagree(len(answers))
        return read[0]
    if any(other != answers[0] for other in answers[1:]):
        raise _disagree(len(answers))
    chosen = answers[0]
    if fields.text not in data and "text" in data:
        data = {**data, fields.text: data["text"]}
    return {**data, fields.label: chosen[0] if len(chosen) == 1 else chosen}


def _disagree(count: int) -> RowProblem:
    return RowProblem(
        "conflict",
        f"The {count} annotations of the task are not the same.",
        "Decide in the tool which is right, and delete the others.",
    )


def _tagged(row: Row, spans: Sequence[object], fields: FieldNames) -> Row:
    """Give words and tags for a text and its spans, with the words that the row has."""
    words = _words(row, fields)
    if words is None:
        return row
    tags = tags_on_words(words, [_span(span) for span in spans])
    return {**row, fields.tokens: [word for word, _, _ in words], fields.tags: tags}


def _words(row: Row, fields: FieldNames) -> list[tuple[str, int, int]] | None:
    """Give the words with their places: the row's own, Prodigy's tokens, or those of its text."""
    given = row.get(fields.tokens, row.get("tokens"))
    if isinstance(given, list) and given:
        if all(isinstance(word, str) for word in given):
            return placed_words({"tokens": tuple(given)})
        try:
            return [(token["text"], int(token["start"]), int(token["end"])) for token in given]
        except (KeyError, TypeError, ValueError):
            return None
    text = row.get(fields.text, row.get("text"))
    return placed_words({"text": text}) if isinstance(text, str) and text else None


def _span(span: object) -> object:
    """Give a span as `start`, `end`, `type`: doccano writes a list, the others name it a label."""
    if isinstance(span, list | tuple) and len(span) == 3:
        return {"start": span[0], "end": span[1], "type": span[2]}
    if isinstance(span, Mapping) and "type" not in span:
        kind = span.get("label", span.get("labels"))
        if isinstance(kind, list):
            kind = kind[0] if len(kind) == 1 else None
        return {"start": span.get("start"), "end": span.get("end"), "type": kind}
    return span
