"""What a training method promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["OPTIONS", "Method", "MethodOptions"]

OPTIONS = "training.method_options in contlearn.toml"


class MethodOptions(BaseModel):
    """Options of a method; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """Prepares a model for training, and makes it an ordinary one again.

    `rate` is the learning rate that is used when training.learning_rate is 0. `keeps_layers` says
    whether rates fall from layer to layer; few parameters all learn alike. `changes_names` says
    whether the model has other parameters while it is trained.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    rate: ClassVar[float]
    keeps_layers: ClassVar[bool]
    changes_names: ClassVar[bool]
    Options: ClassVar[type[MethodOptions]]

    def begin(self, model: TextModel, *, max_tokens: int = 0) -> None:
        """Say by `requires_grad` what is trained; put in what is needed for it.

        Args:
            model: The champion with room for new labels.
            max_tokens: How long a text may be; 0 for not known.
        """
        ...

    def end(self, model: TextModel) -> None:
        """Leave a model that can be saved, exported and trained on by any method."""
        ...
