"""Bottleneck adapters: small layers behind the encoder's own, kept with the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.methods.base import MethodOptions

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["Bottleneck"]


class Bottleneck:
    """Train small layers behind the encoder's own; the encoder stays as it is.

    Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019 (double-seq);
    Pfeiffer et al., 2021 (seq); He et al., 2022 (parallel); as implemented by `adapters`.
    """

    name: ClassVar[str] = "bottleneck"
    summary: ClassVar[str] = "small layers behind the encoder's own; kept with the model"
    rate: ClassVar[float] = 1e-3
    keeps_layers: ClassVar[bool] = False
    changes_names: ClassVar[bool] = True

    class Options(MethodOptions):
        """Where the layers stand, how much narrower they are, their activation."""

        architecture: Literal["seq", "double-seq", "parallel"] = "seq"
        reduction_factor: int = Field(8, ge=1)
        non_linearity: str = "relu"

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Put the layers in, or take the champion's up.

        Raises:
            ConfigError: When `adapters` is not installed, or does not know this encoder, or the
                champion carries another addition.
        """
        from contlearn.modeling.additions import Bottlenecked, addition_of

        settings = self.options.model_dump()
        addition: Any = addition_of(model.encoder)
        if addition is None:
            try:
                model.encoder = Bottlenecked(model.encoder, settings)
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise ConfigError(
                    f"`adapters` cannot change this encoder: {error}",
                    where="training.method in contlearn.toml",
                    hint="Use lora instead.",
                ) from error
        elif addition.kind != Bottlenecked.kind or addition.settings != settings:
            carried = getattr(addition, "settings", addition.kind)
            raise ConfigError(
                f"The champion carries an addition of another kind: {carried}.",
                where="training.method in contlearn.toml",
                hint="Go on with the method and options it was trained with, or with full or lora.",
            )
        own = set(model.encoder.tensors())
        for name, parameter in model.encoder.base.named_parameters():
            parameter.requires_grad_(name in own)

    def end(self, model: TextModel) -> None:
        """Leave the layers where they are: they are part of the model now."""
