"""How fast a model answers, learnt from what came out: seconds for a token, not for a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from contlearn.serving.versions.version import Answer, Item
from contlearn.types import Encoding

__all__ = ["Pace", "Reading"]

_WINDOW_SECONDS: Final = 0.2
_MOST_SLOWER: Final = 4.0
# What was seen long ago says little: after so many idle seconds half of it is forgotten.
_FORGET_SECONDS: Final = 5.0
# How much a run that was alone counts: it says what one run takes, not what comes out under load.
_ALONE_WEIGHT: Final = 0.2
# What a text costs besides its tokens, in tokens: handing it over and starting a run.
_TEXT_TOKENS: Final = 8.0
_TOKENS_PER_CHARACTER: Final = 0.25
_CHARACTERS_KEPT: Final = 100_000


@dataclass(slots=True)
class Reading:
    """Estimates the tokens of texts from their characters, as they were in the texts before."""

    _tokens: float = field(default=1_000 * _TOKENS_PER_CHARACTER, init=False)
    _characters: float = field(default=1_000.0, init=False)

    def costs(
        self, inputs: Sequence[Item], lengths: Sequence[int], max_tokens: int | None
    ) -> list[float]:
        """Give what each text costs, in tokens; nothing is read beyond the token limit."""
        most = max_tokens or math.inf
        rate = self._tokens / self._characters
        return [
            _TEXT_TOKENS + min(most, length if isinstance(item, Encoding) else length * rate)
            for item, length in zip(inputs, lengths, strict=True)
        ]

    def learn(self, item: Item, length: int, answer: Answer) -> None:
        """See how many tokens a text really had; one that was cut does not say."""
        if not answer.tokens or answer.truncated or isinstance(item, Encoding):
            return
        self._tokens += answer.tokens
        self._characters += length
        if self._characters > _CHARACTERS_KEPT:
            self._tokens /= 2
            self._characters /= 2


@dataclass(slots=True)
class Pace:
    """Seconds that one unit of cost takes in the whole pool, smoothed; 0 until one was measured.

    Args:
        runs: How many runs there are at a time.
    """

    runs: int
    seconds: float = field(default=0.0, init=False)
    # Since when the queue has not been empty, and how much was answered since.
    _since: float = field(default=0.0, init=False)
    _answered: float = field(default=0.0, init=False)
    _idle_since: float = field(default=0.0, init=False)

    def begin(self, now: float) -> None:
        """Note that something waits after a time in which nothing did."""
        self.seconds *= 0.5 ** ((now - self._idle_since) / _FORGET_SECONDS)
        self._idle_since = self._since = now
        self._answered = 0.0

    def learn(self, cost: float, seconds: float, now: float, *, is_last: bool) -> None:
        """Learn from a run: what really came out while texts waited, not what one run takes.

        On a busy machine the two differ by a factor: runs wait for a processor, and for each other.

        Args:
            cost: Of what was answered.
            seconds: That the run took.
            now: When it was handed out.
            is_last: Nothing waits any more.
        """
        own = seconds / cost / self.runs
        if not self.seconds:
            self.seconds = own
        self._answered += cost
        elapsed = now - self._since
        if is_last:
            # The workers were not all busy: what came out says nothing about what could have.
            self.seconds += (min(own, _MOST_SLOWER * self.seconds) - self.seconds) * _ALONE_WEIGHT
            self._idle_since = now
        elif elapsed >= _WINDOW_SECONDS:
            # A pause of the whole machine is no pace: what it adds is bounded, so that nobody is
            # turned away for it afterwards.
            seen = min(elapsed / self._answered, _MOST_SLOWER * self.seconds)
            self.seconds += (seen - self.seconds) * 0.5
            self._since, self._answered = now, 0.0
