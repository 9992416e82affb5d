"""Parts of the held-out rows that are looked at by themselves: by length, script, source, group.

A slice is a name and a value, "script" and "Cyrillic". Values that few rows share are not kept:
they say nothing, and the name of a group may be a person's.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from contlearn.interfaces import Task
from contlearn.papers.report import SliceScore
from contlearn.types import LabelledRecord, LabelSpace, PairedScores

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["SLICES", "score_slices", "script_of", "slices_of"]

# What every record can be sliced by; the fields named in `data.slices` come on top.
SLICES: Final = ("length", "script", "source", "group")
# Rows that a value must have over all sets to be named, and values named of one slice.
_LEAST_ROWS: Final = 10
_MOST_VALUES: Final = 50
_LENGTHS: Final = ((40, "up to 40 characters"), (120, "41 to 120"), (400, "121 to 400"))
_LONGEST: Final = "over 400 characters"
_LENGTH_ORDER: Final = {name: i for i, name in enumerate([*(n for _, n in _LENGTHS), _LONGEST])}
_SCRIPTS: Final = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HALFWIDTH": "Kana",
    "FULLWIDTH": "Latin",
    "MODIFIER": "",
    "MATHEMATICAL": "Latin",
}


def script_of(text: str) -> str:
    """Give the script that most letters of a text are written in; empty without a letter.

    Example:
        >>> script_of("Привет, world!"), script_of("你好"), script_of("42")
        ('Cyrillic', 'Han', '')
    """
    counts = Counter(map(_script_of_letter, text[:400]))
    counts.pop("", None)
    return min(counts, key=lambda name: (-counts[name], name), default="")


@lru_cache(maxsize=4096)
def _script_of_letter(letter: str) -> str:
    if not letter.isalpha():
        return ""
    first = unicodedata.name(letter, "").partition(" ")[0]
    return _SCRIPTS.get(first, first.capitalize())


def slices_of(
    sets: Sequence[Sequence[LabelledRecord]], task: Task
) -> list[dict[str, tuple[str, ...]]]:
    """Give each row's value of each slice, set by set.

    A row without one, or with one that is rare, has the empty value. A slice that no row at all has
    a value of is left out, so that a field that is not there can be told from one of rare values.
    """
    values: list[dict[str, list[str]]] = []
    names = dict.fromkeys(SLICES)
    for records in sets:
        found = [_values(record, task) for record in records]
        for row in found:
            names.update(dict.fromkeys(row))
        values.append({name: [row.get(name, "") for row in found] for name in names})
    kept: dict[str, set[str]] = {}
    seen = {name for one in values for name, some in one.items() if any(some)}
    for name in names:
        counts = Counter(value for one in values for value in one.get(name, ()) if value)
        kept[name] = {v for v, rows in counts.most_common(_MOST_VALUES) if rows >= _LEAST_ROWS}
    return [
        {
            name: tuple(value if value in kept[name] else "" for value in one[name])
            for name in names
            if name in one and name in seen
        }
        for one in values
    ]


def _values(record: LabelledRecord, task: Task) -> dict[str, str]:
    text = task.text_of(record.inputs)
    size = len(text)
    return {
        "length": next((name for limit, name in _LENGTHS if size <= limit), _LONGEST),
        "script": script_of(text),
        "source": record.source,
        "group": record.group or "",
        **record.slices,
    }


def score_slices(
    pairs: Iterable[PairedScores],
    task: Task,
    labels: LabelSpace,
    metric: str,
    *,
    by: Sequence[str] | None = None,
    min_rows: int = _LEAST_ROWS,
) -> list[SliceScore]:
    """Score both versions on every slice with enough rows, over all sets together.

    Args:
        pairs: The held-out sets; those without slices are left out.
        task: Its measures.
        labels: What the statistics are counted over.
        metric: Which measure.
        by: Which slices; all that the sets have if left out.
        min_rows: Slices with fewer rows are left out.
    """
    import numpy as np

    parts: dict[tuple[str, str], list[tuple[PairedScores, list[int]]]] = {}
    for pair in pairs:
        for name, values in pair.slices.items():
            if by is not None and name not in by:
                continue
            places: dict[str, list[int]] = {}
            for row, value in enumerate(values):
                if value:
                    places.setdefault(value, []).append(row)
            for value, rows in places.items():
                parts.setdefault((name, value), []).append((pair, rows))

    def measure(sums: FloatArray) -> float:
        return float(task.summarise(sums, labels)[metric])

    found = []
    for (name, value), some in parts.items():
        total = sum(len(places) for _, places in some)
        if total < min_rows:
            continue
        mine = np.sum([p.challenger.statistics[r].sum(axis=0) for p, r in some], axis=0)
        theirs = [p.champion.statistics[r].sum(axis=0) for p, r in some if p.champion]
        found.append(
            SliceScore(
                by=name,
                value=value,
                rows=total,
                challenger=measure(mine),
                champion=measure(np.sum(theirs, axis=0)) if len(theirs) == len(some) else None,
            )
        )
    return sorted(
        found, key=lambda score: (score.by, _LENGTH_ORDER.get(score.value, 0), score.value)
    )
