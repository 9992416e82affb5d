"""Methods that train parts of the model as it is; nothing is put in, so nothing is merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.layers import depth_of
from contlearn.training.methods.base import OPTIONS, MethodOptions

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["BitFit", "Full", "HeadOnly", "TopLayers"]


class Full:
    """Train every parameter that is not frozen."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "every parameter is trained"
    rate: ClassVar[float] = 5e-5
    keeps_layers: ClassVar[bool] = True
    changes_names: ClassVar[bool] = False

    class Options(MethodOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Leave the model as it is."""

    def end(self, model: TextModel) -> None:
        """Leave the model as it is."""


class HeadOnly:
    """Train the head by gradient descent; the encoder stays bit by bit."""

    name: ClassVar[str] = "head-only"
    summary: ClassVar[str] = "only the head is trained, by gradient descent"
    rate: ClassVar[float] = 1e-3
    keeps_layers: ClassVar[bool] = False
    changes_names: ClassVar[bool] = False

    class Options(MethodOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Freeze the encoder."""
        model.encoder.requires_grad_(False)

    def end(self, model: TextModel) -> None:
        """Leave the model as it is."""


class TopLayers:
    """Train the head and the last layers of the encoder."""

    name: ClassVar[str] = "top-layers"
    summary: ClassVar[str] = "the head and the last layers are trained"
    rate: ClassVar[float] = 5e-5
    keeps_layers: ClassVar[bool] = True
    changes_names: ClassVar[bool] = False

    class Options(MethodOptions):
        """How many layers."""

        layers: int = Field(2, ge=1)

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Freeze the embeddings and the first layers.

        Raises:
            ConfigError: When the encoder has fewer layers.
        """
        depths = [depth_of(name) for name, _ in model.encoder.named_parameters()]
        count = max((depth + 1 for depth in depths if depth is not None), default=0)
        if self.options.layers > count:
            raise ConfigError(
                f"layers = {self.options.layers}, but the encoder has {count} layers.",
                where=OPTIONS,
                hint=f"Give a number from 1 to {count}.",
            )
        for name, parameter in model.encoder.named_parameters():
            depth = depth_of(name)
            # What stands behind the layers (a last normalisation) is trained with them.
            behind = depth is None and "embed" not in name and "wte" not in name
            if not behind and (depth is None or depth < count - self.options.layers):
                parameter.requires_grad_(False)

    def end(self, model: TextModel) -> None:
        """Leave the model as it is."""


class BitFit:
    """Train the biases of the encoder, and the head.

    Source: Ben Zaken, Ravfogel and Goldberg, "BitFit", 2022.
    """

    name: ClassVar[str] = "bitfit"
    summary: ClassVar[str] = "only biases are trained, and the head"
    rate: ClassVar[float] = 1e-3
    keeps_layers: ClassVar[bool] = False
    changes_names: ClassVar[bool] = False

    class Options(MethodOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Freeze what is no bias."""
        for name, parameter in model.encoder.named_parameters():
            if not name.endswith("bias"):
                parameter.requires_grad_(False)

    def end(self, model: TextModel) -> None:
        """Leave the model as it is: the trained biases are part of it."""
