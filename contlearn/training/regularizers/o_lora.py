"""Orthogonal low-rank adaptation: each update learns in directions that none used before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["OLora"]

_STATE = "directions.safetensors"


class OLora:
    """Keeps the low-rank updates of one experience orthogonal to those of all before.

    Their input directions are kept as an orthonormal basis a layer, at most `directions` each, so
    that the state does not grow without end.

    Source: Wang et al., "Orthogonal Subspace Learning for Language Model Continual Learning", 2023.
    """

    name: ClassVar[str] = "o-lora"
    summary: ClassVar[str] = "low-rank updates orthogonal to earlier ones; with method lora"

    class Options(RegularizerOptions):
        """Weight of the overlap, and directions kept a layer."""

        strength: float = Field(0.5, gt=0.0)
        directions: int = Field(64, ge=1)

    def __init__(self, options: Options) -> None:
        self.options = options
        self._plugin: Any = None

    def begin(self, start: RegularizerStart) -> Any:
        """Take up the directions of earlier updates.

        Raises:
            ConfigError: With another training method.
        """
        from contlearn.training.avalanche.plugins.subspace import Orthogonal
        from contlearn.training.resume import load_tensors

        if start.method != "lora":
            raise ConfigError(
                f"o-lora needs the low-rank updates of the method lora, not {start.method!r}.",
                where="training.regularizers in contlearn.toml",
                hint='Set training.method = "lora", or use the method osf alone.',
            )
        kept = {}
        if start.state is not None and (start.state / _STATE).is_file():
            kept = load_tensors(start.state / _STATE)
        self._plugin = Orthogonal(
            start.model, kept, strength=self.options.strength, directions=self.options.directions
        )
        return self._plugin

    def save(self, folder: Path, model: TextModel) -> None:
        """Write the directions, this update's among them."""
        from contlearn.training.resume import save_tensors

        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(self._plugin.directions_after(), folder / _STATE)
