"""Methods that train vectors the encoder sees, not the encoder: prompts and prefixes.

What was trained cannot be merged; it stays around the encoder (`contlearn.modeling.additions`),
is exported with it, and the next update goes on from it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.methods.base import OPTIONS, MethodOptions

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["PTuning", "PrefixTuning", "PromptTuning"]


class _Virtual:
    """What prompts and prefixes share."""

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "prompt"
    changes_names: ClassVar[bool] = True
    keeps_layers: ClassVar[bool] = False

    class Options(MethodOptions):
        """How many virtual pieces there are."""

        tokens: int = Field(20, ge=1, le=512)

    def __init__(self, options: Any) -> None:
        self.options = options

    def config(self, model: TextModel) -> Any:
        """Make peft's configuration."""
        raise NotImplementedError  # each method gives its own

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Freeze the encoder and put peft's parametrisation of the vectors before it.

        Raises:
            ConfigError: When the encoder has no room for them, or carries another addition.
        """
        from peft import get_peft_model

        from contlearn.modeling.additions import addition_of, inner_encoder
        from contlearn.modeling.checkpoint import position_limit
        from contlearn.training.methods.virtual import VirtualTokens

        addition = addition_of(model.encoder)
        kept = None
        if addition is not None:
            if addition.kind != self.kind:
                raise ConfigError(
                    f"The champion carries a {addition.kind}, which {self.name} cannot train on.",
                    where="training.method in contlearn.toml",
                    hint="Go on with the method it was trained with, or with full or lora.",
                )
            kept = next(iter(addition.tensors().values()))
            if len(kept) != self.options.tokens:
                raise ConfigError(
                    f"tokens = {self.options.tokens}, but the champion's {addition.kind} "
                    f"has {len(kept)}.",
                    where=OPTIONS,
                    hint=f"Set tokens = {len(kept)}.",
                )
        base = inner_encoder(model.encoder)
        room = position_limit(base)
        if room is not None and max_tokens + self.options.tokens > room:
            raise ConfigError(
                f"The encoder reads {room} pieces: no room for {self.options.tokens} virtual "
                f"pieces beside model.max_tokens = {max_tokens}.",
                where=OPTIONS,
                hint=f"Set tokens to at most {max(room - max_tokens, 0)}, or lower max_tokens.",
            )
        before = model.encoder
        base.requires_grad_(False)
        try:
            with warnings.catch_warnings():
                # peft 0.21 asks transformers 5 by a name that is to go with 6.
                warnings.simplefilter("ignore", FutureWarning)
                parametrised = get_peft_model(base, self.config(model))
            model.encoder = VirtualTokens(parametrised, base, kind=self.kind, kept=kept)
            model.encoder.check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            model.encoder = before
            raise ConfigError(
                f"The method {self.name} cannot be used with this encoder: {error}",
                where="training.method in contlearn.toml",
                hint="Use lora, ia3 or bitfit instead.",
            ) from error

    def end(self, model: TextModel) -> None:
        """Keep the vectors themselves, without what made them."""
        encoder: Any = model.encoder
        model.encoder = encoder.finished()


class PromptTuning(_Virtual):
    """Train vectors that stand before the pieces of every text.

    Source: Lester, Al-Rfou and Constant, "The Power of Scale for Parameter-Efficient Prompt
    Tuning", 2021, as implemented by peft.
    """

    name: ClassVar[str] = "prompt-tuning"
    summary: ClassVar[str] = "trained vectors before the pieces of every text; kept with the model"
    rate: ClassVar[float] = 1e-2

    def config(self, model: TextModel) -> Any:
        """Make peft's configuration."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            task_type="FEATURE_EXTRACTION",
            num_virtual_tokens=self.options.tokens,
            prompt_tuning_init="SAMPLE_VOCAB",
        )


class PTuning(_Virtual):
    """Train vectors before every text through a small network.

    Source: Liu et al., "GPT Understands, Too", 2021, as implemented by peft.
    """

    name: ClassVar[str] = "p-tuning"
    summary: ClassVar[str] = "a prompt that a small network makes while training"
    rate: ClassVar[float] = 1e-3

    class Options(MethodOptions):
        """How many virtual pieces, and the width of the network; 0 for the encoder's."""

        tokens: int = Field(20, ge=1, le=512)
        hidden_size: int = Field(0, ge=0)

    def config(self, model: TextModel) -> Any:
        """Make peft's configuration."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            task_type="FEATURE_EXTRACTION",
            num_virtual_tokens=self.options.tokens,
            encoder_hidden_size=self.options.hidden_size or model.width,
        )


class PrefixTuning(_Virtual):
    """Train keys and values that stand before those of every layer.

    Source: Li and Liang, "Prefix-Tuning", 2021, as implemented by peft.
    """

    name: ClassVar[str] = "prefix-tuning"
    summary: ClassVar[str] = "trained keys and values in every layer; kept with the model"
    kind: ClassVar[str] = "prefix"
    rate: ClassVar[float] = 1e-2

    class Options(MethodOptions):
        """How many virtual pieces, and whether a small network makes them while training."""

        tokens: int = Field(20, ge=1, le=512)
        projection: bool = False

    def config(self, model: TextModel) -> Any:
        """Make peft's configuration."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type="FEATURE_EXTRACTION",
            num_virtual_tokens=self.options.tokens,
            prefix_projection=self.options.projection,
            encoder_hidden_size=model.width,
        )
