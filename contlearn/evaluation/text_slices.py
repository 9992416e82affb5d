"""Named slices of the texts: does a label come more often there, and is the model less right?

A slice is named in `[monitoring.slices]` by a pattern over the text, or by `language:NAME` (as
`words.language_of` guesses it) or `source:PATTERN` (the file a record came from).
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from contlearn.config.monitoring import split_slice
from contlearn.interfaces import Task
from contlearn.tasks.words import language_of
from contlearn.types import HeldOutSet

__all__ = [
    "MIN_ROWS",
    "compare_text_slices",
    "largest_difference",
    "slice_matcher",
    "slice_report",
]

# Below this a rate says nothing.
MIN_ROWS = 20
# Some expressions take longer with every character, without an end that anybody would wait for.
_TEXT_SECONDS: Final = 1.0
_SLICE_SECONDS: Final = 60.0
_log = logging.getLogger("contlearn.evaluation")


def slice_matcher(pattern: str) -> Callable[[str, str], bool]:
    r"""Make what says whether a row is in a slice, given its text and its source.

    Args:
        pattern: As `[monitoring.slices]` has it.
    Raises:
        ValueError: When the pattern cannot be read.
        TimeoutError: By what is made: when an expression takes too long over one row.
    Example:
        >>> slice_matcher("language:german")("Wo ist das Paket und die Rechnung?", "a.jsonl")
        True
        >>> slice_matcher(r"\brefund")("please REFUND me", "a.jsonl")
        True
    """
    kind, rest = split_slice(pattern)
    if kind == "language":
        return lambda text, _source: language_of(text) == rest
    if kind == "source":
        return lambda _text, source: rest.search(source, timeout=_TEXT_SECONDS) is not None
    return lambda text, _source: rest.search(text, timeout=_TEXT_SECONDS) is not None


def _inside(pattern: str, texts: Sequence[str], sources: Sequence[str]) -> list[bool]:
    """Say of each row whether it is in the slice.

    Raises:
        TimeoutError: When the pattern takes too long over a row, or over all.
    """
    matches, until = slice_matcher(pattern), time.monotonic() + _SLICE_SECONDS
    found = []
    for text, source in zip(texts, sources, strict=True):
        if time.monotonic() > until:
            raise TimeoutError
        found.append(matches(text, source))
    return found


def compare_text_slices(
    slices: Mapping[str, str],
    sets: Sequence[HeldOutSet],
    answers: Sequence[Sequence[object]],
    task: Task,
) -> list[dict[str, Any]]:
    """Compare the slices over all held-out rows; classifications only, else nothing."""
    if "scores" not in task.gives:
        return []
    rows = [
        (task.text_of(record.inputs), record.source or "", answer, record.target)
        for held_out, given in zip(sets, answers, strict=True)
        for record, answer in zip(held_out.records, given, strict=True)
    ]
    if not slices or not rows:
        return []
    texts, sources, given_labels, targets = zip(*rows, strict=True)
    return slice_report(slices, texts, sources, given_labels, targets)


def slice_report(
    slices: Mapping[str, str],
    texts: Sequence[str],
    sources: Sequence[str],
    answers: Sequence[str],
    targets: Sequence[str],
) -> list[dict[str, Any]]:
    """Compare each slice with all rows outside it.

    Returns:
        For each slice: its rows, the accuracy inside and outside, and the labels whose rate of
        answers differs most from outside, each with both rates, the rates of the true labels, and
        a two-sided p-value (two proportions) that counts how many labels were looked at. A
        difference of answers where the true labels do not differ is the model's own. A slice
        whose pattern takes too long has no rows, and a `problem`.
    """
    found = []
    for name, pattern in slices.items():
        try:
            inside = _inside(pattern, texts, sources)
        except TimeoutError:
            problem = "not measured: its pattern takes too long; write it without nested repeats"
            _log.warning("slice not measured", extra={"slice": name, "hint": problem})
            none: dict[str, Any] = {"slice": name, "rows": 0, "rows_outside": 0, "labels": []}
            found.append(none | {"problem": problem})
            continue
        n, m = sum(inside), len(inside) - sum(inside)
        row: dict[str, Any] = {"slice": name, "rows": n, "rows_outside": m, "labels": []}
        if n < MIN_ROWS or m < MIN_ROWS:
            found.append(row)
            continue
        counts = [_split(values, inside) for values in (answers, targets)]
        right = [a == t for a, t in zip(answers, targets, strict=True)]
        row["accuracy"] = sum(r for r, i in zip(right, inside, strict=True) if i) / n
        row["accuracy_outside"] = sum(r for r, i in zip(right, inside, strict=True) if not i) / m
        labels = sorted(counts[0][0].keys() | counts[0][1].keys())
        for label in labels:
            (a, b), (c, d) = ((part[0][label], part[1][label]) for part in counts)
            row["labels"].append(
                {
                    "label": label,
                    "rate": a / n,
                    "rate_outside": b / m,
                    "true_rate": c / n,
                    "true_rate_outside": d / m,
                    "p_value": min(1.0, _two_proportions(a, n, b, m) * len(labels)),
                }
            )
        row["labels"].sort(key=lambda item: -abs(item["rate"] - item["rate_outside"]))
        row["labels"] = row["labels"][:5]
        found.append(row)
    return found


def largest_difference(row: Mapping[str, Any]) -> float | None:
    """Give the largest difference of a label's rate from outside; None for a small slice."""
    if not row["labels"]:
        return None
    return float(max(abs(item["rate"] - item["rate_outside"]) for item in row["labels"]))


def _split(values: Sequence[str], inside: Sequence[bool]) -> tuple[Counter[str], Counter[str]]:
    into: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for value, is_in in zip(values, inside, strict=True):
        into[0 if is_in else 1][value] += 1
    return into


def _two_proportions(a: int, n: int, b: int, m: int) -> float:
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if error == 0:
        return 1.0
    return math.erfc(abs(a / n - b / m) / error / math.sqrt(2))
