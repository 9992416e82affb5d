"""Why this answer: each word's share in it, found by leaving the word out and asking again.

Works on whatever is served, int8 included, because it only asks the predictor. One answer costs one
question for each word, so that long texts are explained by runs of words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contlearn.arguments import require_several
from contlearn.interfaces import Predictor
from contlearn.tasks.marks import SINGLE, word_pattern, words_with_marks
from contlearn.types import Inputs

__all__ = ["Explanation", "Part", "explain_input", "explain_inputs"]

# Of an input of one word a blank mark is left: a text of nothing cannot be asked.
_NOTHING: Final = "."
_JOINERS: Final = r"'’\-"
_CHARACTER: Final = r"[%A]*[^%A][%A]*"
_MOST_PARTS: Final = 48
_CLIP: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A word, or a run of words, and its weight; positions count characters, the end exclusive.

    `weight` is in units of log-odds: how much the odds of the label fall when it is left out.
    Positive speaks for the label, negative against it. `field` is the input it stands in.
    """

    field: str
    start: int
    end: int
    text: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The parts of an input in order, and the label they speak for or against.

    `texts` has the text of each field, in which the positions count.
    """

    label: str
    confidence: float
    parts: tuple[Part, ...]
    texts: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values; fields are named where there are several."""
        several = len(self.texts) > 1
        return {
            "label": self.label,
            "confidence": self.confidence,
            **({"texts": dict(self.texts)} if several else {}),
            "words": [
                {
                    **({"field": part.field} if several else {}),
                    "start": part.start,
                    "end": part.end,
                    "text": part.text,
                    "weight": round(part.weight, 4),
                }
                for part in self.parts
            ],
        }


def explain_input(predictor: Predictor, inputs: Inputs, *, label: str | None = None) -> Explanation:
    """Weigh the words of each field for the label that the inputs got, or for another label.

    Args:
        predictor: A classifier.
        inputs: What was answered; a word is left out of its field, and all else stays.
        label: The label to explain; the predicted one if left out.
    Raises:
        ValueError: When the task gives no such probabilities, or the label is unknown to the model.
    Source: Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation
        Erasure", 2016 (leave one out).
    """
    texts = {name: v if isinstance(v, str) else " ".join(v) for name, v in inputs.items()}
    words = {name: _words(value) for name, value in inputs.items()}
    # In a long text, runs of as many words as keep the number of questions bounded.
    size = max(1, math.ceil(sum(map(len, words.values())) / _MOST_PARTS))
    runs = [
        (name, first, min(first + size, len(found)))
        for name, found in words.items()
        for first in range(0, len(found), size)
    ]
    remainders = [
        {**inputs, name: _without(inputs[name], words[name], first, end)}
        for name, first, end in runs
    ]
    answers = predictor.predict([inputs, *remainders])
    whole = answers[0]
    scores = whole.scores
    if scores is None:
        raise ValueError("only answers with the probability of each label can be explained")
    chosen = whole.labels[0] if label is None else label
    if chosen not in scores:
        raise ValueError(f"the model has no label {chosen!r}")
    base = _log_odds(scores[chosen])
    weighed = []
    for (name, first, end), answer in zip(runs, answers[1:], strict=True):
        score = (answer.scores or {}).get(chosen, 0.0)
        begin, stop = words[name][first][0], words[name][end - 1][1]
        weighed.append(
            Part(
                field=name,
                start=begin,
                end=stop,
                text=texts[name][begin:stop],
                weight=base - _log_odds(score),
            )
        )
    return Explanation(label=chosen, confidence=scores[chosen], parts=tuple(weighed), texts=texts)


def explain_inputs(predictor: Predictor, inputs: Sequence[Inputs]) -> list[Explanation]:
    """Weigh the words of several inputs, each for the label it got."""
    require_several(inputs, what="input", where="explain_inputs")
    return [explain_input(predictor, one) for one in inputs]


def _words(value: str | tuple[str, ...]) -> list[tuple[int, int]]:
    """Find the words of a text, or place those that are given one after the other."""
    words: list[tuple[int, int]] = []
    if not isinstance(value, str):
        at = 0
        for word in value:
            words.append((at, at + len(word)))
            at += len(word) + 1
        return words
    for found in words_with_marks(_JOINERS).finditer(value):
        if SINGLE.search(found[0]):
            whole = word_pattern(_CHARACTER)
            words += [one.span() for one in whole.finditer(value, found.start(), found.end())]
        else:
            words.append(found.span())
    return words


def _without(
    value: str | tuple[str, ...], words: Sequence[tuple[int, int]], first: int, end: int
) -> str | tuple[str, ...]:
    if not isinstance(value, str):
        return (*value[:first], *value[end:]) or (_NOTHING,)
    left = (value[: words[first][0]] + " " + value[words[end - 1][1] :]).strip()
    return re.sub(r"\s+", " ", left) or _NOTHING


def _log_odds(probability: float) -> float:
    p = min(max(probability, _CLIP), 1 - _CLIP)
    return math.log(p / (1 - p))
