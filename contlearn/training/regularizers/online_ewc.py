"""Online elastic weight consolidation: what mattered may move little."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["OnlineEwc"]

_IMPORTANCES = "importances.safetensors"
_ANCHORS = "anchors.safetensors"


class OnlineEwc:
    """Holds each weight near its last value, as strongly as it mattered so far.

    One set of importances for all of the past, so that its cost does not grow.

    Source: Schwarz et al., "Progress and Compress", 2018; avalanche's EWCPlugin.
    """

    name: ClassVar[str] = "online-ewc"
    summary: ClassVar[str] = "holds weights that mattered near their last values"

    class Options(RegularizerOptions):
        """Weight of the penalty, and how much of the past is kept at each update."""

        strength: float = Field(100.0, gt=0.0)
        decay: float = Field(0.9, gt=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options
        self._plugin: Any = None
        self._names: list[str] = []

    def begin(self, start: RegularizerStart) -> Any:
        """Take up importances and anchors where the champion left them.

        Raises:
            ConfigError: With a method whose own parameters begin anew in every update.
        """
        from contlearn.training.avalanche.plugins.from_avalanche import ewc_plugin
        from contlearn.training.resume import load_tensors

        if start.changes_names:
            raise ConfigError(
                "online-ewc holds weights near their last values, but this training method "
                "begins with new ones in every update.",
                where="training.regularizers in contlearn.toml",
                hint='Use training.method = "full" or "bitfit", or the regularizer "lwf".',
            )
        importances, anchors = {}, {}
        if start.state is not None and (start.state / _IMPORTANCES).is_file():
            importances = load_tensors(start.state / _IMPORTANCES)
            anchors = load_tensors(start.state / _ANCHORS)
        device = next(start.model.parameters()).device
        self._names = [name for name, p in start.model.named_parameters() if p.requires_grad]
        self._plugin = ewc_plugin(
            strength=self.options.strength,
            decay=self.options.decay,
            importances=_aligned(start.model, importances, device),
            anchors=_aligned(start.model, anchors, device) if importances else {},
            experiences_before=start.experiences_before,
        )
        return self._plugin

    def save(self, folder: Path, model: TextModel) -> None:
        """Write the importances, and the weights of the challenger as the next anchors."""
        from contlearn.training.avalanche.plugins.from_avalanche import ewc_state
        from contlearn.training.resume import save_tensors

        folder.mkdir(parents=True, exist_ok=True)
        importances = ewc_state(self._plugin, self._names)
        weights = {name: p for name, p in model.named_parameters() if name in importances}
        save_tensors(importances, folder / _IMPORTANCES)
        save_tensors(weights, folder / _ANCHORS)


def _aligned(model: TextModel, tensors: dict[str, Any], device: Any) -> dict[str, Any]:
    """Put tensors in the model's order and shape, zeros where there is nothing yet.

    The plugin pairs by order, and its own way of growing a tensor indexes with a list of slices,
    which torch is about to read as something else.
    """
    import torch

    if not tensors:
        return {}
    found: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        grown = torch.zeros(list(parameter.shape), device=device)
        if name in tensors:
            grown[: len(tensors[name])] = tensors[name].to(device)
        found[name] = grown
    return found
