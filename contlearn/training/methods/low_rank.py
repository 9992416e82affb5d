"""Methods of peft whose new parameters are merged into the weights when training ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.methods.base import OPTIONS, MethodOptions

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["Ia3", "Lora", "Osf", "PeftMethod"]


class Merged:
    """Put peft's layers into the encoder, and merge them when training ends."""

    name: ClassVar[str] = ""
    changes_names: ClassVar[bool] = True
    keeps_layers: ClassVar[bool] = False

    def config(self, encoder: Any) -> Any:
        """Make peft's configuration for an encoder."""
        raise NotImplementedError  # each method gives its own

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Put the layers in; all else in the encoder stays as it is.

        Raises:
            ConfigError: When they do not fit this encoder.
        """
        import warnings

        from peft import get_peft_model

        from contlearn.modeling.additions import inner_encoder, set_inner_encoder

        encoder = inner_encoder(model.encoder)
        model.encoder.requires_grad_(False)
        try:
            with warnings.catch_warnings():
                # Some methods look for compiled extensions and do without.
                warnings.simplefilter("ignore")
                wrapped = get_peft_model(encoder, self.config(encoder))
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise ConfigError(
                f"The method {self.name} cannot be put into this encoder: {error}",
                where=OPTIONS,
                hint="Leave target_modules out, or name layers that the encoder has.",
            ) from error
        set_inner_encoder(model, wrapped)

    def end(self, model: TextModel) -> None:
        """Merge the layers into the weights."""
        from contlearn.modeling.additions import inner_encoder, set_inner_encoder

        merged = inner_encoder(model.encoder).merge_and_unload()
        if hasattr(merged, "peft_config"):
            del merged.peft_config
        set_inner_encoder(model, merged)


class Lora(Merged):
    """Train low-rank updates beside the linear layers.

    Source: Hu et al., "LoRA", 2022; Kalajdzievski, "rsLoRA", 2023; Liu et al., "DoRA", 2024;
    Meng et al., "PiSSA", 2024; all as implemented by peft.
    """

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "low-rank updates of linear layers, merged before export"
    rate: ClassVar[float] = 5e-4

    class Options(MethodOptions):
        """Rank and strength of the updates, the layers that get one, and the variant."""

        rank: int = Field(16, ge=1)
        alpha: int = Field(32, ge=1)
        dropout: float = Field(0.0, ge=0.0, lt=1.0)
        target_modules: tuple[str, ...] = ()
        use_rslora: bool = False
        use_dora: bool = False
        init: Literal["kaiming", "gaussian", "orthogonal", "pissa", "olora"] = "kaiming"

    def __init__(self, options: Options) -> None:
        self.options = options

    def config(self, encoder: Any) -> Any:
        """Make peft's configuration for an encoder."""
        from peft import LoraConfig

        options = self.options
        start: Any = True if options.init == "kaiming" else options.init
        return LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=list(options.target_modules) or "all-linear",
            use_rslora=options.use_rslora,
            use_dora=options.use_dora,
            init_lora_weights=start,
            bias="none",
        )


class Ia3(Merged):
    """Train factors of keys, values and inner activations.

    Source: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
    In-Context Learning", 2022, as implemented by peft.
    """

    name: ClassVar[str] = "ia3"
    summary: ClassVar[str] = "factors of keys, values and activations, merged before export"
    rate: ClassVar[float] = 1e-2

    class Options(MethodOptions):
        """The layers whose outputs, and whose inputs, are scaled; known ones if left out."""

        target_modules: tuple[str, ...] = ()
        feedforward_modules: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options

    def config(self, encoder: Any) -> Any:
        """Make peft's configuration for an encoder."""
        from peft import IA3Config

        targets, inner = list(self.options.target_modules), list(self.options.feedforward_modules)
        if not targets:
            targets, inner = _scaled_layers(encoder)
        return IA3Config(target_modules=[*targets, *inner], feedforward_modules=inner)


class Osf(Merged):
    """Freeze the strongest directions of every weight and train the rest of it.

    Source: Nayak et al., "Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual
    Learning", 2025, as implemented by peft (OSF).
    """

    name: ClassVar[str] = "osf"
    summary: ClassVar[str] = "trains weights in the directions that matter least; merged"
    rate: ClassVar[float] = 5e-5

    class Options(MethodOptions):
        """Which share of the directions is frozen, and in which layers."""

        frozen_share: float = Field(0.5, gt=0.0, lt=1.0)
        target_modules: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options

    def config(self, encoder: Any) -> Any:
        """Make peft's configuration for an encoder."""
        from peft import OSFConfig

        return OSFConfig(
            effective_rank=self.options.frozen_share,
            target_modules=list(self.options.target_modules) or "all-linear",
        )


class PeftMethod(Merged):
    """Any other method of peft that can be merged, by the name of its configuration class."""

    name: ClassVar[str] = "peft"
    summary: ClassVar[str] = "any mergeable method of peft, by its configuration class"
    rate: ClassVar[float] = 1e-3

    class Options(MethodOptions):
        """The class, such as "VeraConfig", and its keyword arguments."""

        config: str = Field(pattern=r"^[A-Za-z0-9]+Config$")
        arguments: Mapping[str, Any] = {}

    def __init__(self, options: Options) -> None:
        self.options = options

    def config(self, encoder: Any) -> Any:
        """Make peft's configuration for an encoder.

        Raises:
            ConfigError: When peft has no such class, or it is no method that can be merged.
        """
        import peft

        found = getattr(peft, self.options.config, None)
        if found is None or not issubclass(found, peft.PeftConfig):
            known = sorted(n for n in dir(peft) if n.endswith("Config"))
            raise ConfigError(
                f"peft {peft.__version__} has no class {self.options.config}.",
                where=OPTIONS,
                hint=f"Known: {', '.join(known)}.",
            )
        if issubclass(found, peft.PromptLearningConfig):
            raise ConfigError(
                f"{self.options.config} cannot be merged into the weights.",
                where=OPTIONS,
                hint='Use training.method = "prompt-tuning", "p-tuning" or "prefix-tuning".',
            )
        values = {"target_modules": "all-linear", **self.options.arguments}
        return found(**values)


def _scaled_layers(encoder: Any) -> tuple[list[str], list[str]]:
    """Find the layers that make keys, values and, from inner activations, outputs."""
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as INNER,
    )
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

    kind = str(encoder.config.model_type)
    if kind in TARGETS:
        inner = list(INNER.get(kind, ()))
        return [name for name in TARGETS[kind] if name not in inner], inner
    names = [name for name, _ in encoder.named_modules()]
    for keys, values, outputs in (
        ("key", "value", "output.dense"),
        ("k_lin", "v_lin", "lin2"),
        ("k_proj", "v_proj", "fc2"),
        ("Wqkv", "Wqkv", "mlp.Wo"),
    ):
        if any(n.endswith(f".{keys}") for n in names):
            return sorted({keys, values}), [outputs]
    raise ValueError(f"it is not known which layers of {kind} make keys and values")
