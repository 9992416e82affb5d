"""Learning without forgetting: the champion's answers are a second teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["Lwf"]


class Lwf:
    """Distils the champion's scores of the labels it knows, on every mini-batch.

    The teacher is the champion itself, so nothing needs to be saved.

    Source: Li and Hoiem, "Learning without Forgetting", 2016; avalanche's LwFPlugin.
    """

    name: ClassVar[str] = "lwf"
    summary: ClassVar[str] = "keeps the champion's answers by distillation"
    needs: ClassVar[frozenset[str]] = frozenset(("classes",))

    class Options(RegularizerOptions):
        """Weight of the distillation, and its temperature."""

        alpha: float = Field(1.0, gt=0.0)
        temperature: float = Field(2.0, gt=0.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, start: RegularizerStart) -> Any:
        """Load the champion as the teacher; a first experience has none."""
        teacher = start.load_champion()
        if teacher is None:
            return None
        from contlearn.training.avalanche.plugins.from_avalanche import lwf_plugin

        return lwf_plugin(teacher, alpha=self.options.alpha, temperature=self.options.temperature)

    def save(self, folder: Path, model: TextModel) -> None:
        """Save nothing: the next teacher is the next champion."""
