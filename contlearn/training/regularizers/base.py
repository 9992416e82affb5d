"""What a regulariser is given, and what it promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from contlearn.errors import ConfigError

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel
    from contlearn.training.encoded import Part

__all__ = ["Regularizer", "RegularizerOptions", "RegularizerStart"]


class RegularizerOptions(BaseModel):
    """Options of a regulariser; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegularizerStart:
    """Where a regulariser begins.

    Args:
        model: What is trained; already grown, its method already in place.
        load_champion: Reads the champion's model, or gives None in a first experience.
        state: What the regulariser saved with the champion, or None.
        experiences_before: How many experiences the champion has learnt.
        changes_names: Whether the training method puts other parameters into the encoder.
        method: Name of the training method.
        memory: The exemplars, encoded; None when there are none.
        tokenizer: Of the model.
        max_tokens: Longer texts are cut.
        unlabelled: The folder of unlabelled texts, if there is one.
        batch_size: Inputs in a mini-batch.
        micro_batch_size: How many of them go through the model at a time.
    """

    model: TextModel
    load_champion: Callable[[], TextModel | None]
    state: Path | None
    experiences_before: int
    changes_names: bool
    method: str = "full"
    memory: Part | None = None
    tokenizer: Any = None
    max_tokens: int = 128
    unlabelled: Path | None = None
    batch_size: int = 16
    micro_batch_size: int = 64

    def require_lasting_names(self, name: str) -> None:
        """Refuse a method whose parameters begin anew in every update.

        Raises:
            ConfigError: When the method is one.
        """
        if self.changes_names:
            raise ConfigError(
                f"{name} holds weights near their last values, but this training method "
                "begins with new ones in every update.",
                where="training.regularizers in contlearn.toml",
                hint='Use training.method = "full" or "bitfit", or the regularizer "lwf".',
            )


class Regularizer(Protocol):
    """A penalty, as an avalanche plugin with state of its own on disk.

    Example:
        class Mine:
            name = "mine"
            summary = "pulls weights to zero"

            class Options(RegularizerOptions):
                strength: float = 0.1

            def __init__(self, options): ...
            def begin(self, start): return an_avalanche_plugin
            def save(self, folder, model): ...
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    def Options(self) -> type[RegularizerOptions]:  # noqa: N802  # a class; so a nested one will do
        """What may be configured; a class attribute."""
        ...

    def begin(self, start: RegularizerStart) -> Any:
        """Make the avalanche plugin for this training, or None to take no part in it.

        A plugin with `state_tensors()` and `load_state_tensors(tensors)` is saved with the state
        of the training, so that a killed one goes on bit by bit.
        """
        ...

    def save(self, folder: Path, model: TextModel) -> None:
        """Write what the next update needs; `model` is the challenger, finished and merged."""
        ...
