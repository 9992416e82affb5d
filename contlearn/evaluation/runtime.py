"""What a version costs to run: seconds a text beside the champion's, and unknown tokens."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.errors import EvaluationError, StorageError
from contlearn.interfaces import Predictor, Task
from contlearn.tasks.vocabulary import unknown_piece
from contlearn.types import HeldOutSet, Inputs
from contlearn.workspace import read_json

__all__ = [
    "RUNTIME",
    "Interval",
    "latency_ratio",
    "mean_latency",
    "measure_runtime",
    "read_runtime",
    "without_unknown",
]

RUNTIME: Final = "runtime.json"
FORMAT_VERSION: Final = 1
_TEXTS: Final = 40
_ROUNDS: Final = 7
_LEAST_ROUNDS: Final = 3
_SECONDS: Final = 4.0
_DRAWS: Final = 2000
_CHUNK: Final = 512


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value and its one-sided bounds."""

    value: float
    lower: float
    upper: float


def measure_runtime(
    task: Task,
    sets: Sequence[HeldOutSet],
    challenger: Predictor,
    champion: Predictor | None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Time both versions on the same texts in turns, and count the challenger's tokens.

    Returns:
        What runtime.json holds: `latency` (or null without a row), `tokens`, one entry a set, and
        `tokenizer` with its unknown piece, null for one that cannot have any (both null where the
        version does not show its tokenizer).
    """
    inputs = [record.inputs for held_out in sets for record in held_out.records]
    tokenizer = getattr(challenger, "tokenizer", None)
    return {
        "format_version": FORMAT_VERSION,
        "latency": _time_in_turns(_spread(inputs, task), challenger, champion, clock),
        "tokens": _count_tokens(task, sets, challenger),
        "tokenizer": None if tokenizer is None else {"unknown_piece": unknown_piece(tokenizer)},
    }


def without_unknown(runtime: Mapping[str, Any]) -> bool:
    """Say whether a version's tokenizer cannot have unknown pieces, as far as that was noted."""
    tokenizer = runtime.get("tokenizer")
    return isinstance(tokenizer, Mapping) and tokenizer.get("unknown_piece") is None


def read_runtime(folder: Path) -> dict[str, Any]:
    """Read runtime.json; empty where a version was made without one."""
    try:
        value = read_json(folder / RUNTIME)
    except StorageError:
        return {}
    return value if value.get("format_version") == FORMAT_VERSION else {}


def mean_latency(latency: Mapping[str, Any], *, confidence: float, seed: int) -> Interval:
    """Give the challenger's mean seconds a text, with bounds over the choice of texts."""
    import numpy as np

    times = np.asarray(latency["challenger"], dtype=float)
    drawn = times[_draw(len(times), seed)].mean(axis=1)
    return _interval(float(times.mean()), drawn, confidence)


def latency_ratio(latency: Mapping[str, Any], *, confidence: float, seed: int) -> Interval | None:
    """Give the challenger's time over the champion's on the same texts; None without a champion.

    Texts are drawn again as pairs, so that a long text is long for both.
    """
    import numpy as np

    if latency.get("champion") is None:
        return None
    mine = np.asarray(latency["challenger"], dtype=float)
    theirs = np.asarray(latency["champion"], dtype=float)
    drawn = _draw(len(mine), seed)
    ratios = mine[drawn].sum(axis=1) / theirs[drawn].sum(axis=1)
    return _interval(float(mine.sum() / theirs.sum()), ratios, confidence)


def _draw(size: int, seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).integers(size, size=(_DRAWS, size))


def _interval(value: float, drawn: Any, confidence: float) -> Interval:
    import numpy as np

    lower, upper = np.quantile(drawn, (1.0 - confidence, confidence))
    return Interval(value, float(lower), float(upper))


def _spread(inputs: Sequence[Inputs], task: Task) -> list[Inputs]:
    """Choose texts evenly over their lengths, so that long ones are there too."""
    ordered = sorted(inputs, key=lambda item: (len(task.text_of(item)), task.text_of(item)))
    if len(ordered) <= _TEXTS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (_TEXTS - 1))] for i in range(_TEXTS)]


def _time_in_turns(
    texts: Sequence[Inputs],
    challenger: Predictor,
    champion: Predictor | None,
    clock: Callable[[], float],
) -> dict[str, Any] | None:
    """Run each text on both, first one first and then the other, so that drift hits both alike.

    Of the rounds the median counts; there are fewer where they take long.
    """
    if not texts:
        return None
    both = [challenger] if champion is None else [challenger, champion]
    times: list[list[list[float]]] = [[[] for _ in texts] for _ in both]
    for predictor in both:
        predictor.predict(texts[:2])
    began, rounds = clock(), 0
    while rounds < _ROUNDS and (rounds < _LEAST_ROUNDS or clock() - began < _SECONDS):
        for place, text in enumerate(texts):
            order = range(len(both)) if (rounds + place) % 2 else reversed(range(len(both)))
            for who in order:
                started = clock()
                both[who].predict([text])
                times[who][place].append(clock() - started)
        rounds += 1
    medians = [[round(statistics.median(one), 7) for one in who] for who in times]
    if any(value <= 0.0 for who in medians for value in who):
        raise EvaluationError(
            "A text took no time at all: the clock is too coarse to compare latencies.",
            where="the machine's performance counter",
            hint="Run the update on another machine.",
        )
    return {
        "texts": len(texts),
        "rounds": rounds,
        "challenger": medians[0],
        "champion": medians[1] if champion is not None else None,
    }


def _count_tokens(
    task: Task, sets: Sequence[HeldOutSet], predictor: Predictor
) -> list[dict[str, Any]] | None:
    tokenizer, limit = (getattr(predictor, name, None) for name in ("tokenizer", "max_tokens"))
    if tokenizer is None or limit is None:
        return None
    counted = []
    for held_out in sets:
        pieces = unknown = cut = 0
        words = Counter[str]()
        records = held_out.records
        for start in range(0, len(records), _CHUNK):
            some = [record.inputs for record in records[start : start + _CHUNK]]
            for encodings in task.encode(tokenizer, some, limit):
                pieces += sum(len(encoding.input_ids) for encoding in encodings)
                unknown += sum(encoding.unknown_pieces for encoding in encodings)
                cut += any(encoding.truncated for encoding in encodings)
                for encoding in encodings:
                    words["read"] += len(encoding.words)
                    words["lost"] += len(encoding.lost_words)
                    words["cut"] += len(encoding.cut_words)
        counted.append(
            {
                "index": held_out.index,
                "is_new": held_out.is_new,
                "rows": len(records),
                "pieces": pieces,
                "unknown": unknown,
                "cut": cut,
                # Of tasks that label words: those read, without pieces, beyond the token limit.
                **({"words": dict(words)} if words.total() else {}),
            }
        )
    return counted
