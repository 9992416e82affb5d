"""Any avalanche plugin, by its import path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["AvalanchePlugin"]


class AvalanchePlugin:
    """Puts a `SupervisedPlugin` of avalanche, or of anyone, into the training loop.

    What it remembers lasts for one update: only contlearn's own regularisers survive a restart.
    """

    name: ClassVar[str] = "avalanche"
    summary: ClassVar[str] = "any avalanche plugin, by its import path"

    class Options(RegularizerOptions):
        """Where the class is, and its keyword arguments."""

        path: str = Field(pattern=r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$")
        options: Mapping[str, Any] = {}

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, start: RegularizerStart) -> Any:
        """Import the class and make the plugin."""
        from contlearn.training.avalanche.plugins.from_avalanche import load_plugin

        return load_plugin(self.options.path, self.options.options)

    def save(self, folder: Path, model: TextModel) -> None:
        """Save nothing: there is no way to know what it holds."""
