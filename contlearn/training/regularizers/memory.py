"""Methods that look back at exemplars in every step. Their memory is the replay buffer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["AGem", "Der", "DerPlusPlus", "ErAce", "Gem", "Lfl", "Mir"]


class _Memory:
    """Takes part from the second experience on, as soon as there are exemplars."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def __init__(self, options: Any) -> None:
        self.options = options

    def begin(self, start: RegularizerStart) -> Any:
        """Make the plugin; without exemplars there is none."""
        if start.memory is None or not start.memory.train:
            return None
        return self.make(start)

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin over the exemplars."""
        raise NotImplementedError  # each regulariser gives its own

    def save(self, folder: Path, model: TextModel) -> None:
        """Save nothing: the exemplars are in the replay buffer."""


def _one_row_each(start: RegularizerStart, name: str) -> None:
    if start.model.has_places:
        raise ConfigError(
            f"{name} ranks inputs by one loss each; a word model has one a word.",
            where="training.regularizers in contlearn.toml",
            hint='Use "er-ace", "der-plus-plus", "lwf" or "online-ewc" for entities.',
        )


class Gem(_Memory):
    """Projects each step so that it raises the loss on no stretch of the past.

    Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory", 2017; avalanche's GEMPlugin, with a
    bounded number of constraints.
    """

    name: ClassVar[str] = "gem"
    summary: ClassVar[str] = "no step may raise the loss on any stretch of the past"

    class Options(RegularizerOptions):
        """Stretches of the past, exemplars of each a step, and the offset of the projection."""

        constraints: int = Field(5, ge=1, le=50)
        patterns: int = Field(16, ge=1)
        strength: float = Field(0.5, ge=0.0)

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin over the exemplars."""
        from contlearn.training.avalanche.plugins.memory import BoundedGem

        memory: Any = start.memory
        return BoundedGem(memory.training_set(), **self.options.model_dump())


class AGem(_Memory):
    """Projects each step so that it does not raise the loss on a draw of exemplars.

    Source: Chaudhry et al., "Efficient Lifelong Learning with A-GEM", 2019; avalanche's AGEMPlugin.
    """

    name: ClassVar[str] = "a-gem"
    summary: ClassVar[str] = "no step may raise the loss on a draw of exemplars"

    class Options(RegularizerOptions):
        """Exemplars a step."""

        sample_size: int = Field(32, ge=1)

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin over the exemplars."""
        from contlearn.training.avalanche.plugins.memory import AverageGem

        memory: Any = start.memory
        return AverageGem(memory.training_set(), sample_size=self.options.sample_size)


class Mir(_Memory):
    """Shows the exemplars that the step at hand would harm most.

    Source: Aljundi et al., "Online Continual Learning with Maximally Interfered Retrieval", 2019.
    """

    name: ClassVar[str] = "mir"
    summary: ClassVar[str] = "shows the exemplars that a step would harm most"

    class Options(RegularizerOptions):
        """How many exemplars are looked at, and how many of them are shown, in a step."""

        subsample: int = Field(48, ge=1)
        batch_size: int = Field(16, ge=1)

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin over the exemplars."""
        from contlearn.training.avalanche.plugins.memory import Interfered

        _one_row_each(start, self.name)
        memory: Any = start.memory
        return Interfered(memory.training_set(), **self.options.model_dump())


class ErAce(_Memory):
    """Lets new records compete only with the labels that are new in a batch.

    Works with strategies that show exemplars: er, replay.

    Source: Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online
    Continual Learning", 2022.
    """

    name: ClassVar[str] = "er-ace"
    summary: ClassVar[str] = "new records do not push the labels of old ones away; with replay"
    needs: ClassVar[frozenset[str]] = frozenset(("classes",))

    class Options(RegularizerOptions):
        """None."""

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin."""
        from contlearn.training.avalanche.plugins.memory import NewRows

        return NewRows()


class Lfl:
    """Holds the features of new texts near the champion's.

    Source: Jung et al., "Less-Forgetting Learning in Deep Neural Networks", 2016; avalanche's
    LFLPlugin.
    """

    name: ClassVar[str] = "lfl"
    summary: ClassVar[str] = "holds features near the champion's"

    class Options(RegularizerOptions):
        """Weight of the distance."""

        strength: float = Field(1.0, gt=0.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def begin(self, start: RegularizerStart) -> Any:
        """Load the champion as the teacher; a first experience has none."""
        teacher = start.load_champion()
        if teacher is None:
            return None
        from contlearn.training.avalanche.plugins.memory import LessForgetful

        return LessForgetful(teacher, strength=self.options.strength)

    def save(self, folder: Path, model: TextModel) -> None:
        """Save nothing: the next teacher is the next champion."""


class Der(_Memory):
    """Holds exemplars to the scores they were learnt with.

    Source: Buzzega et al., "Dark Experience for General Continual Learning", 2020.
    """

    name: ClassVar[str] = "der"
    summary: ClassVar[str] = "holds exemplars to the scores they were learnt with"

    class Options(RegularizerOptions):
        """Weight of the distance to the stored scores, and exemplars a step."""

        alpha: float = Field(0.5, gt=0.0)
        batch_size: int = Field(16, ge=1)

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._kept: Any = None

    def make(self, start: RegularizerStart) -> Any:
        """Make the plugin; exemplars of the last experience get the champion's scores."""
        from contlearn.training.avalanche.plugins.memory import DarkExperience, stored_logits

        champion, memory = start.load_champion(), start.memory
        if champion is None or memory is None:
            return None
        logits = stored_logits(memory.data, start.state, champion)
        self._kept = (memory.data, logits)
        return DarkExperience(
            memory.data,
            memory.train,
            logits,
            alpha=self.options.alpha,
            beta=getattr(self.options, "beta", 0.0),
            batch_size=self.options.batch_size,
        )

    def save(self, folder: Path, model: TextModel) -> None:
        """Write the scores of exemplars that had some; the next update adds new ones."""
        if self._kept is None:
            return
        from contlearn.training.avalanche.plugins.memory import save_logits

        memory, logits = self._kept
        save_logits(memory, logits, folder)


class DerPlusPlus(Der):
    """DER, and the ordinary loss on exemplars besides."""

    name: ClassVar[str] = "der-plus-plus"
    summary: ClassVar[str] = "DER, and the ordinary loss on exemplars besides"

    class Options(RegularizerOptions):
        """Weights of the distance and of the ordinary loss, and exemplars a step."""

        alpha: float = Field(0.5, gt=0.0)
        beta: float = Field(0.5, gt=0.0)
        batch_size: int = Field(16, ge=1)
