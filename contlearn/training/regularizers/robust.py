"""Training against small changes of texts: adversarial steps, smoothness, R-Drop, mixup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["Fgm", "FreeLb", "Mixup", "Pgd", "RDrop", "Smart"]


class _Robust:
    """Keeps nothing between updates."""

    name: ClassVar[str] = ""

    def __init__(self, options: Any) -> None:
        self.options = options

    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        raise NotImplementedError  # each regulariser gives its own

    def save(self, folder: Path, model: TextModel) -> None:
        """Save nothing."""


class _Adversarial(_Robust):
    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        from contlearn.training.avalanche.plugins.robust import Adversarial

        values = {"steps": 1, "step_size": 1.0, **self.options.model_dump()}
        kind: Any = self.name
        return Adversarial(start.model, kind=kind, pieces=start.micro_batch_size, **values)


class Fgm(_Adversarial):
    """One step up the gradient of the embeddings, and its loss beside the ordinary one.

    Source: Miyato, Dai and Goodfellow, "Adversarial Training Methods for Semi-Supervised Text
    Classification", 2017.
    """

    name: ClassVar[str] = "fgm"
    summary: ClassVar[str] = "adversarial training, one step on the embeddings"

    class Options(RegularizerOptions):
        """Size of the change relative to the text's embeddings, and weight of its loss."""

        epsilon: float = Field(0.1, gt=0.0)
        weight: float = Field(1.0, gt=0.0)


class Pgd(_Adversarial):
    """Several projected steps; the last is trained on.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """

    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "adversarial training, several projected steps on the embeddings"

    class Options(RegularizerOptions):
        """Size of the change, steps, size of a step relative to it, weight of the loss."""

        epsilon: float = Field(0.1, gt=0.0)
        steps: int = Field(3, ge=1, le=20)
        step_size: float = Field(0.4, gt=0.0)
        weight: float = Field(1.0, gt=0.0)


class FreeLb(_Adversarial):
    """Several steps, all of which are trained on.

    Source: Zhu et al., "FreeLB: Enhanced Adversarial Training for Natural Language Understanding",
    2020.
    """

    name: ClassVar[str] = "freelb"
    summary: ClassVar[str] = "adversarial training that learns from every step on its way"

    class Options(RegularizerOptions):
        """Size of the change, steps, size of a step relative to it, weight of the loss."""

        epsilon: float = Field(0.1, gt=0.0)
        steps: int = Field(2, ge=1, le=20)
        step_size: float = Field(0.5, gt=0.0)
        weight: float = Field(1.0, gt=0.0)


class Smart(_Robust):
    """Asks for like scores under the change that moves them most.

    Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language
    Models", 2020: its smoothness-inducing regulariser.
    """

    name: ClassVar[str] = "smart"
    summary: ClassVar[str] = "like scores under small changes of the embeddings"
    needs: ClassVar[frozenset[str]] = frozenset(("classes",))

    class Options(RegularizerOptions):
        """Size of the change relative to the text's embeddings, and weight of the divergence."""

        epsilon: float = Field(0.1, gt=0.0)
        weight: float = Field(1.0, gt=0.0)

    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        from contlearn.training.avalanche.plugins.robust import Smoothness

        return Smoothness(start.model, **self.options.model_dump())


class RDrop(_Robust):
    """Shows each batch twice and asks for like scores under both draws of dropout.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", 2021.
    """

    name: ClassVar[str] = "r-drop"
    summary: ClassVar[str] = "like scores under two draws of dropout"
    needs: ClassVar[frozenset[str]] = frozenset(("classes",))

    class Options(RegularizerOptions):
        """Weight of the divergence."""

        weight: float = Field(1.0, gt=0.0)

    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        from contlearn.training.avalanche.plugins.robust import RepeatedDropout

        return RepeatedDropout(weight=self.options.weight)


class Mixup(_Robust):
    """Mixes the features of pairs of rows, and their targets alike.

    Source: Verma et al., "Manifold Mixup", 2019; Chen, Yang and Yang, "MixText", 2020.
    """

    name: ClassVar[str] = "mixup"
    summary: ClassVar[str] = "mixes features and targets of pairs"

    class Options(RegularizerOptions):
        """How evenly pairs are mixed, and the weight of the mixed loss."""

        alpha: float = Field(0.4, gt=0.0)
        weight: float = Field(0.5, gt=0.0, le=1.0)

    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        from contlearn.training.avalanche.plugins.robust import HiddenMixup

        return HiddenMixup(start.model, **self.options.model_dump())
