"""[training]: how the champion becomes a challenger; augmentation, regularisers, search."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contlearn.config.base import Section

__all__ = [
    "AUGMENTATIONS",
    "AugmentationConfig",
    "RangeConfig",
    "RegularizerConfig",
    "SearchConfig",
    "TrainingConfig",
]

_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
_NAME_OR_PATH = rf"^([a-z][a-z0-9-]*|{_PATH})$"
# Changes to texts that training may make; those that keep the number of words suit word labels.
AUGMENTATIONS = ("typo", "case", "mask", "swap", "delete", "duplicate", "back-translation")


class RangeConfig(Section):
    """A key of `[training.search.space]` that lies between two numbers."""

    low: int | float = Field(description="The lowest value that is tried.")
    high: int | float = Field(description="The highest value that is tried.")
    log: bool = Field(
        False, description="Whether values are drawn by their logarithm, as suits learning rates."
    )

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

    trials: int = Field(
        0, ge=0, le=1000, description="Trainings that try settings before an update; 0: no search."
    )
    minutes: float = Field(
        0.0, ge=0.0, description="Minutes after which no further trial begins; 0: no limit."
    )
    prune: bool = Field(True, description="Whether trials that fall behind are ended early.")
    space: Mapping[str, RangeConfig | tuple[bool | int | float | str, ...]] = Field(
        {},
        description="What is searched: keys of [training], each with a list of choices or with "
        "low and high; empty: the learning rate.",
    )

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
    name: str = Field(
        description="Its name, such as lwf, or `avalanche` with a `path`; its options stand "
        "beside it."
    )


class AugmentationConfig(Section):
    """[training.augmentation]: how new texts are changed while they are learnt."""

    operations: tuple[str, ...] = Field(
        (),
        description="Changes that are drawn from: typo, case, mask, swap, delete, duplicate, "
        'back-translation, or "package.module:function"; empty: none.',
    )
    share: float = Field(
        0.5, gt=0.0, le=1.0, description="The share of texts, 0 to 1, that an epoch changes."
    )
    strength: float = Field(
        0.1, gt=0.0, le=1.0, description="The share of a text's words, 0 to 1, that are changed."
    )
    models: tuple[str, ...] = Field(
        (), description="For back-translation: the folders of the models there and back."
    )

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

    strategy: str = Field(
        "replay",
        description="What a challenger learns from; docs/strategies.md lists and compares them.",
    )
    strategy_options: Mapping[str, Any] = Field({}, description="Options of the strategy.")
    method: str = Field(
        "full",
        description="Which parameters are trained: full, lora, bitfit, adapters … "
        "(docs/strategies.md).",
    )
    method_options: Mapping[str, Any] = Field({}, description="Options of the method.")
    regularizers: tuple[RegularizerConfig, ...] = ()
    epochs: int = Field(3, ge=1, description="How often the new records are gone through.")
    batch_size: int = Field(16, ge=1, description="Records of one step of the optimiser.")
    micro_batch_size: int = Field(
        64,
        ge=1,
        description="Records computed at once; a larger batch is computed in pieces, with the "
        "same result and less memory.",
    )
    learning_rate: float = Field(
        0.0,
        ge=0.0,
        description="The highest step size of the encoder; 0: the method's own. From 1e-4 on full "
        "fine-tuning forgets.",
    )
    head_learning_rate: float = Field(
        1e-3, gt=0.0, description="The highest step size of the head."
    )
    optimizer: str = Field(
        "adamw",
        pattern=_NAME_OR_PATH,
        description="What updates the weights: a name, or a torch optimizer by its path "
        '("torch.optim:NAdam").',
    )
    optimizer_options: Mapping[str, Any] = Field({}, description="Options of the optimiser.")
    scheduler: str = Field(
        "linear",
        pattern=_NAME_OR_PATH,
        description="How the step size falls in the course of an update: linear, cosine, constant"
        " …, or a torch scheduler by its path.",
    )
    weight_decay: float = Field(
        0.01,
        ge=0.0,
        description="How strongly each step draws weights to 0; biases and norms aside.",
    )
    momentum: float = Field(
        0.9, ge=0.0, lt=1.0, description="How much of the last step goes on; for sgd."
    )
    warmup_ratio: float = Field(
        0.1, ge=0.0, le=1.0, description="The share of steps, 0 to 1, in which the step size rises."
    )
    layer_decay: float = Field(
        0.8,
        gt=0.0,
        le=1.0,
        description="Each layer's step size is so many times that of the layer above it; 1: the "
        "same for all.",
    )
    freeze_embeddings: bool = Field(
        False, description="Whether the vectors of the pieces stay as they are."
    )
    freeze_layers: int = Field(
        0, ge=0, description="How many of the lowest layers stay as they are."
    )
    max_gradient_norm: float = Field(
        1.0, gt=0.0, description="The longest that a gradient may be; a longer one is shortened."
    )
    loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy",
        description="What is made small; `focal` looks more at what is still wrong.",
    )
    focal_gamma: float = Field(
        2.0, ge=0.0, description="How much more the focal loss looks at what is wrong."
    )
    class_weights: Literal["none", "balanced"] | Mapping[str, float] = Field(
        "none",
        description="How much labels weigh in the loss: all alike, `balanced` by how rare they "
        "are, or a number above 0 for each.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="The share of a target, 0 to 1, that is spread over all labels.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="The numbers that training computes with; bf16 is for GPUs."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Whether activations are computed twice instead of kept: less memory, slower.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "off",
        description="Whether torch compiles the layers; `auto` where the training is long enough "
        "to win.",
    )
    augmentation: AugmentationConfig = AugmentationConfig()
    search: SearchConfig = SearchConfig()
    early_stopping_patience: int = Field(
        2,
        ge=0,
        description="Training ends after so many epochs without a better validation score, and "
        "the best epoch is kept; 0: it always runs to its end.",
    )
    validation_ratio: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="The share of training records, 0 to 1, set aside for choosing the epoch; 0: "
        "none.",
    )
    checkpoint_steps: int = Field(
        200, ge=1, description="Steps between two checkpoints from which a killed update goes on."
    )
    seed: int = Field(17, description="Decides everything that is drawn: the same gives the same.")
    threads: int = Field(
        0, ge=0, description="Threads that training computes with; 0: one for each core."
    )

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
