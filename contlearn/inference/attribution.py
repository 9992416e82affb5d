"""Why this answer: each word's share in it, found by leaving the word out and asking again.

Works on whatever is served, int8 included, because it only asks the predictor. One answer costs one
question for each word, so that long texts are explained by runs of words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contlearn.arguments import require_several
from contlearn.interfaces import Predictor
from contlearn.tasks.marks import word_pattern

__all__ = ["Explanation", "Part", "explain_text", "explain_texts"]

# Marks belong to the word or sign before them, as in `contlearn.tasks.spans`.
_WORD: Final = (
    r"[%A]*(?:"
    r"(?:\w[%M]*)+(?:['’\-][%M]*(?:\w[%M]*)+)*|"
    r"[^\w\s][%M]*(?:(?<=\u200d)[^\w\s][%M]*)*"
    r")(?:\u200b[%A]*)?|[%A]+"
)
_CHARACTER: Final = r"[%A]*[^%A][%A]*"
# Chinese and Japanese have no blanks between words: each character is a part.
_SINGLE: Final = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]")
_MOST_PARTS: Final = 48
_CLIP: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A word, or a run of words, and its weight; positions count characters, the end exclusive.

    `weight` is in units of log-odds: how much the odds of the label fall when it is left out.
    Positive speaks for the label, negative against it.
    """

    start: int
    end: int
    text: str
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "weight": round(self.weight, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The parts of a text in order, and the label they speak for or against."""

    label: str
    confidence: float
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "label": self.label,
            "confidence": self.confidence,
            "words": [part.to_json() for part in self.parts],
        }


def explain_text(predictor: Predictor, text: str, *, label: str | None = None) -> Explanation:
    """Weigh the words of a text for the label it got, or for another label.

    Args:
        predictor: A classifier.
        text: What was answered.
        label: The label to explain; the predicted one if left out.
    Raises:
        ValueError: When the task gives no such probabilities, or the label is unknown to the model.
    Source: Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation
        Erasure", 2016 (leave one out).
    """
    parts = _parts(text)
    # A text of one word has nothing to compare with: the empty remainder is asked as a blank mark.
    remainders = [_without(text, start, end) for start, end in parts]
    answers = predictor.predict([{"text": item} for item in (text, *remainders)])
    whole = answers[0]
    scores = whole.scores
    if scores is None:
        raise ValueError("only answers with the probability of each label can be explained")
    chosen = whole.labels[0] if label is None else label
    if chosen not in scores:
        raise ValueError(f"the model has no label {chosen!r}")
    base = _log_odds(scores[chosen])
    weighed = []
    for (start, end), answer in zip(parts, answers[1:], strict=True):
        score = (answer.scores or {}).get(chosen, 0.0)
        weighed.append(
            Part(start=start, end=end, text=text[start:end], weight=base - _log_odds(score))
        )
    return Explanation(label=chosen, confidence=scores[chosen], parts=tuple(weighed))


def explain_texts(predictor: Predictor, texts: Sequence[str]) -> list[Explanation]:
    """Weigh the words of several texts, each for the label it got."""
    require_several(texts, what="text", where="explain_texts")
    return [explain_text(predictor, text) for text in texts]


def _parts(text: str) -> list[tuple[int, int]]:
    """Find words; in a long text, runs of as many words as keep the number of questions bounded."""
    words: list[tuple[int, int]] = []
    for found in word_pattern(_WORD).finditer(text):
        if _SINGLE.search(found[0]):
            whole = word_pattern(_CHARACTER)
            words += [one.span() for one in whole.finditer(text, found.start(), found.end())]
        else:
            words.append(found.span())
    size = math.ceil(len(words) / _MOST_PARTS) if words else 1
    return [
        (words[i][0], words[min(i + size, len(words)) - 1][1]) for i in range(0, len(words), size)
    ]


def _without(text: str, start: int, end: int) -> str:
    left = (text[:start] + " " + text[end:]).strip()
    return re.sub(r"\s+", " ", left) or "."


def _log_odds(probability: float) -> float:
    p = min(max(probability, _CLIP), 1 - _CLIP)
    return math.log(p / (1 - p))
