"""A loaded version: its predictor, who still uses it, and how it is checked before it answers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from contlearn.errors import ServingError
from contlearn.inference.familiarity import is_unknown
from contlearn.interfaces import Predictor
from contlearn.papers.manifest import VersionFacts
from contlearn.types import Encoding, Inputs, Prediction

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "Answer",
    "Item",
    "Load",
    "LoadedVersion",
]

# What one answer is asked for: inputs of the task, or ids that the client tokenised itself.
Item: TypeAlias = "Inputs | Encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One prediction and what stands behind it; None where the predictor cannot say.

    `is_unknown` says that the text is unlike what the model was proven on.
    """

    prediction: Prediction
    logits: FloatArray | None = None
    projection: Sequence[float] | None = None
    tokens: int | None = None
    truncated: bool = False
    unknown_pieces: int = 0
    is_unknown: bool | None = None

    @property
    def unknown_ratio(self) -> float | None:
        """Give the share of pieces that the vocabulary does not hold."""
        return None if self.tokens is None else self.unknown_pieces / max(1, self.tokens)


# Loads a version folder, verified: `OnnxPredictor.load` with the server's plugins and threads.
Load: TypeAlias = Callable[[Path], Predictor]


@dataclass
class LoadedVersion:
    """A version that can answer. Requests take it before they use it and give it back after.

    Args:
        number: The version's number.
        epoch: Which promotion made it champion.
        predictor: What answers.
        folder: Where it was loaded from.
        facts: What its manifest says.
        loaded_at: Seconds since the epoch.
    """

    number: int
    epoch: int
    predictor: Predictor
    folder: Path
    facts: VersionFacts = field(default_factory=VersionFacts)
    loaded_at: float = 0.0
    _users: int = field(default=0, init=False)
    _retired: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _idle: threading.Event = field(default_factory=threading.Event, init=False)

    def take(self) -> bool:
        """Note one more user.

        Returns:
            False when it is retired: whoever asks takes the version that answers now.
        """
        with self._lock:
            if self._retired:
                return False
            self._users += 1
            return True

    def give_back(self) -> None:
        """Note one user less."""
        with self._lock:
            self._users -= 1
            if self._retired and self._users == 0:
                self._idle.set()

    @property
    def users(self) -> int:
        """Give how many requests use it now."""
        return self._users

    def retire(self, timeout_seconds: float) -> bool:
        """Wait until nobody uses it; no new request may take it any more.

        Returns:
            Whether it is free; False after the timeout.
        """
        with self._lock:
            self._retired = True
            if self._users == 0:
                self._idle.set()
        return self._idle.wait(timeout_seconds)

    def close(self) -> None:
        """Let go of threads and memory; only after `retire` said that nobody uses it."""
        close = getattr(self.predictor, "close", None)
        if close is not None:
            close()

    def predict(self, items: Sequence[Item]) -> list[Answer]:
        """Predict.

        Raises:
            ServingError: When the predictor does not give one sound answer for each item.
        """
        if any(isinstance(item, Encoding) for item in items):
            return [answer for item in items for answer in self._answer_one(item)]
        return self._answer_inputs([item for item in items if not isinstance(item, Encoding)])

    def _answer_one(self, item: Item) -> list[Answer]:
        return self._answer_ids(item) if isinstance(item, Encoding) else self._answer_inputs([item])

    def _answer_inputs(self, inputs: Sequence[Inputs]) -> list[Answer]:
        detailed = getattr(self.predictor, "predict_detailed", None)
        if detailed is None:
            answers = [Answer(prediction=item) for item in self.predictor.predict(inputs)]
        else:
            answers = [self._checked(item) for item in detailed(inputs)]
        if len(answers) != len(inputs):
            raise ServingError(
                f"Version {self.number} gave {len(answers)} answers to {len(inputs)} texts.",
                where=str(self.folder),
                hint="Roll back to another version, and report this as a bug.",
            )
        return answers

    def _answer_ids(self, encoding: Encoding) -> list[Answer]:
        predictor: Any = self.predictor
        return [self._checked(answer) for answer in predictor.answer_ids([encoding])]

    def _checked(self, item: Any) -> Answer:
        """Take over a predictor's answer; one that is not a number never reaches a client."""
        prediction = item.prediction
        if prediction.confidence is not None and not math.isfinite(prediction.confidence):
            raise ServingError(
                f"Version {self.number} gave scores that are not numbers.",
                where=str(self.folder),
                hint="Roll back to another version; its weights or its export are damaged.",
            )
        unknown = None
        if self.unknown_rule is not None:
            temperature = getattr(self.predictor, "temperature", 1.0)
            unknown = is_unknown(item.logits, self.unknown_rule, temperature)
        return Answer(
            prediction=prediction,
            logits=item.logits,
            projection=item.projection if len(item.projection) else None,
            tokens=item.tokens,
            truncated=item.truncated,
            unknown_pieces=item.unknown_pieces,
            is_unknown=unknown,
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Give the labels as users know them."""
        task = getattr(self.predictor, "task", None)
        names = self.predictor.label_space.names
        return names if task is None else tuple(task.label_names(names))

    @property
    def unknown_rule(self) -> Mapping[str, Any] | None:
        """Give how unknown texts are told, where the version was calibrated for it."""
        return self.facts.model.unknown
