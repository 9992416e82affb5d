"""Penalties that hold each weight near its last value, as strongly as it mattered so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["Ewc", "Mas", "RWalk", "SynapticIntelligence"]

_STATE = "state.safetensors"


class _Importance:
    """Keeps one set of importances for all of the past, so that its cost does not grow."""

    name: ClassVar[str] = ""
    maker: ClassVar[str] = ""

    def __init__(self, options: Any) -> None:
        self.options = options
        self._plugin: Any = None

    def begin(self, start: RegularizerStart) -> Any:
        """Take up importances where the champion left them.

        Raises:
            ConfigError: With a method whose own parameters begin anew in every update.
        """
        from contlearn.training.avalanche.plugins import importance
        from contlearn.training.resume import load_tensors

        start.require_lasting_names(self.name)
        kept = {}
        if start.state is not None and (start.state / _STATE).is_file():
            kept = load_tensors(start.state / _STATE)
        make = getattr(importance, self.maker)
        self._plugin = make(
            start.model, kept, started=start.experiences_before > 0, **self.options.model_dump()
        )
        return self._plugin

    def save(self, folder: Path, model: TextModel) -> None:
        """Write the importances, and where the challenger's weights are."""
        from contlearn.training.resume import save_tensors

        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(self._plugin.lasting_tensors(model), folder / _STATE)


class Ewc(_Importance):
    """Elastic weight consolidation with one penalty for every experience learnt.

    The sum of quadratic penalties is one quadratic penalty: around the mean of the former weights,
    weighted by importance. So all experiences count, and the state stays as large as two models.

    Source: Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", 2017;
    avalanche's EWCPlugin.
    """

    name: ClassVar[str] = "ewc"
    summary: ClassVar[str] = "holds weights near the values each experience left, by Fisher"
    maker: ClassVar[str] = "make_ewc"

    class Options(RegularizerOptions):
        """Weight of the penalty."""

        strength: float = Field(100.0, gt=0.0)


class SynapticIntelligence(_Importance):
    """Counts along the way how much each weight lowered the loss.

    Source: Zenke, Poole and Ganguli, "Continual Learning Through Synaptic Intelligence", 2017;
    avalanche's SynapticIntelligencePlugin.
    """

    name: ClassVar[str] = "si"
    summary: ClassVar[str] = "holds weights by what their way contributed to learning"
    maker: ClassVar[str] = "make_si"

    class Options(RegularizerOptions):
        """Weight of the penalty."""

        strength: float = Field(1.0, gt=0.0)


class Mas(_Importance):
    """Measures how sensitive the scores are to each weight; needs no labels.

    Source: Aljundi et al., "Memory Aware Synapses", 2018; avalanche's MASPlugin.
    """

    name: ClassVar[str] = "mas"
    summary: ClassVar[str] = "holds weights that the scores are sensitive to"
    maker: ClassVar[str] = "make_mas"

    class Options(RegularizerOptions):
        """Weight of the penalty, and the share of earlier importances in each update."""

        strength: float = Field(1.0, gt=0.0)
        past_share: float = Field(0.5, ge=0.0, lt=1.0)


class RWalk(_Importance):
    """Joins a moving Fisher with the effect of each weight on the loss.

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", 2018; avalanche's
    RWalkPlugin.
    """

    name: ClassVar[str] = "rwalk"
    summary: ClassVar[str] = "holds weights by Fisher and by their effect along the way"
    maker: ClassVar[str] = "make_rwalk"

    class Options(RegularizerOptions):
        """Weight of the penalty, share of the newest gradients, steps between two scores."""

        strength: float = Field(0.1, gt=0.0)
        newest_share: float = Field(0.9, gt=0.0, le=1.0)
        steps: int = Field(10, ge=1)
