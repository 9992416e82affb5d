"""Which parameters are trained: all of them, or a few that are merged before export."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contlearn.errors import ConfigError

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["METHODS", "BitFit", "Full", "Lora", "check_method"]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Full:
    """Train every parameter that is not frozen."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "every parameter is trained"
    changes_names: ClassVar[bool] = False

    class Options(_Options):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel) -> None:
        """Leave the model as it is."""

    def end(self, model: TextModel) -> None:
        """Leave the model as it is."""


class BitFit:
    """Train the biases of the encoder, and the head.

    Source: Ben Zaken, Ravfogel and Goldberg, "BitFit", 2022.
    """

    name: ClassVar[str] = "bitfit"
    summary: ClassVar[str] = "only biases are trained, and the head"
    changes_names: ClassVar[bool] = False

    class Options(_Options):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel) -> None:
        """Freeze what is no bias."""
        for name, parameter in model.encoder.named_parameters():
            if not name.endswith("bias"):
                parameter.requires_grad_(False)

    def end(self, model: TextModel) -> None:
        """Leave the model as it is: the trained biases are part of it."""


class Lora:
    """Train low-rank updates beside the linear layers; they are merged into them at the end.

    Source: Hu et al., "LoRA", 2022, as implemented by peft.
    """

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "low-rank updates of linear layers, merged before export"
    changes_names: ClassVar[bool] = True

    class Options(_Options):
        """Rank and strength of the updates, and the layers that get one."""

        rank: int = Field(16, ge=1)
        alpha: int = Field(32, ge=1)
        dropout: float = Field(0.0, ge=0.0, lt=1.0)
        target_modules: tuple[str, ...] = ()
        use_rslora: bool = False
        use_dora: bool = False

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel) -> None:
        """Put the updates beside the layers.

        Raises:
            ConfigError: When no layer has one of the names.
        """
        from peft import LoraConfig, get_peft_model

        options = self.options
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=list(options.target_modules) or "all-linear",
            use_rslora=options.use_rslora,
            use_dora=options.use_dora,
            bias="none",
        )
        # Parameters that were frozen before stay so; peft freezes all others but its own.
        try:
            model.encoder = get_peft_model(model.encoder, config)
        except ValueError as error:
            raise ConfigError(
                f"LoRA cannot be put into this encoder: {error}",
                where="training.method_options.target_modules in contlearn.toml",
                hint="Leave the option out to use all linear layers.",
            ) from error

    def end(self, model: TextModel) -> None:
        """Add the updates to the layers' weights."""
        model.encoder = model.encoder.merge_and_unload()


METHODS: Final[Mapping[str, type[Any]]] = {cls.name: cls for cls in (Full, Lora, BitFit)}


def check_method(name: str, options: Mapping[str, object]) -> Any:
    """Look a method up and check its options, before any model is loaded.

    Raises:
        ConfigError: When there is no such method, or an option is wrong.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, list(METHODS), n=1, cutoff=0.5)
        raise ConfigError(
            f"There is no training method {name!r}.",
            where="training.method in contlearn.toml",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(METHODS)}.",
        )
    method = METHODS[name]
    try:
        return method(method.Options.model_validate(dict(options)))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        known = ", ".join(inspect.signature(method.Options).parameters) or "no options"
        raise ConfigError(
            f"The options of the training method {name!r} are wrong: {problems}.",
            where="training.method_options in contlearn.toml",
            hint=f"It takes: {known}.",
        ) from error
