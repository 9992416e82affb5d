"""Logged predictions as columns: what every detector looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["NUMBERS", "Sample", "sample_of"]

# Numbers of a line of the log. What a line lacks is NaN: the confidence of a text without entities.
NUMBERS: Final = ("characters", "unknown_ratio", "confidence", "energy")
# A column with values in fewer rows than this share is as good as missing.
_MOST: Final = 0.5
_TEXTS: Final = 0.9


@dataclass(frozen=True, slots=True)
class Sample:
    """Columns of logged predictions; what the log does not hold is empty.

    Shape: projections (n, 32); numbers: each (n,); labels, languages, texts: n.
    """

    projections: FloatArray
    numbers: Mapping[str, FloatArray]
    labels: Sequence[str]
    languages: Sequence[str] = ()
    texts: Sequence[str] = ()
    places: Sequence[tuple[str, int]] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def has(self, column: str) -> bool:
        """Say whether a column is there: projections, labels, languages, texts or a number's."""
        if column in self.numbers:
            return True
        if column in ("projections", "labels", "languages", "texts"):
            return len(getattr(self, column)) > 0
        return False

    def rows(self, places: FloatArray | Sequence[int]) -> Sample:
        """Give some rows."""
        at = np.asarray(places, dtype=np.int64)

        def some(values: Sequence[Any]) -> list[Any]:
            return [values[place] for place in at] if len(values) else []

        return Sample(
            self.projections[at] if len(self.projections) else self.projections,
            {name: values[at] for name, values in self.numbers.items()},
            some(self.labels),
            some(self.languages),
            some(self.texts),
            some(self.places),
        )


def sample_of(lines: Iterable[Mapping[str, Any]]) -> Sample:
    """Make columns of lines of the prediction log; a column that most lines lack is left out."""
    rows = list(lines)
    projections = [row.get("projection") for row in rows]
    width = len(projections[0] or ()) if projections else 0
    complete = width > 0 and all(isinstance(p, list) and len(p) == width for p in projections)
    numbers = {name: _column(rows, name) for name in NUMBERS}
    tokens = _column(rows, "tokens")
    numbers["fragmentation"] = tokens / np.maximum(numbers["characters"], 1.0)
    languages = [str(row.get("language", "")) for row in rows]
    texts = [row.get("text") for row in rows]
    # A window that begins before texts were logged still has most of them.
    enough = rows and sum(isinstance(text, str) for text in texts) >= _TEXTS * len(rows)
    return Sample(
        projections=np.array(projections, dtype=np.float64) if complete else np.zeros((0, 0)),
        numbers={
            name: values
            for name, values in numbers.items()
            if len(values) and np.isfinite(values).mean() >= _MOST
        },
        labels=["+".join(sorted(row.get("labels", ()))) or "O" for row in rows],
        languages=languages if rows and all(languages) else (),
        texts=[text if isinstance(text, str) else "" for text in texts] if enough else (),
        places=[(str(row.get("request_id", "")), int(row.get("index", 0))) for row in rows],
    )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    values: FloatArray = np.array(
        [v if isinstance(v := row.get(name), int | float) else np.nan for row in rows],
        dtype=np.float64,
    )
    return values
