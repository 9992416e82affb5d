"""The figures of one run, from the rows that its experiences left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contlearn.evaluation.metrics import (
    as_matrix,
    average_accuracy,
    backward_transfer,
    forgetting,
)
from contlearn.wording import metric_name

__all__ = ["FIGURES", "measures_of", "titles"]

# Name → (title, whether higher is better, whether it is a share).
FIGURES = {
    "average_accuracy": ("average accuracy", True, True),
    "forgetting": ("forgetting", False, True),
    "backward_transfer": ("backward transfer", True, True),
    "forward_transfer": ("forward transfer", True, True),
    "learning_accuracy": ("learning accuracy", True, True),
    "negative_flips": ("negative flips", False, True),
    "seconds": ("seconds", False, False),
    "peak_bytes": ("peak memory", False, False),
}


def titles(primary: str) -> list[str]:
    """Give the title of each figure, for a task with this primary measure."""
    average = {"average_accuracy": metric_name("average_accuracy", primary)}
    return [average.get(name, title) for name, (title, _, _) in FIGURES.items()]


def measures_of(
    rows: Sequence[Mapping[str, Any]], *, steps: int, is_reference: bool
) -> dict[str, Any]:
    """Make figures of the rows of a run.

    Args:
        rows: One for each experience learnt: scores on `dev` and `test` of every experience (null
            where labels are not known yet), `right` row by row, `chance`.
        steps: How many experiences the stream has.
        is_reference: The run learnt all at once at the end, so nothing happened in between.
    Units: ratios, 0 to 1; differences, -1 to 1.
    """
    last = rows[-1]
    found: dict[str, Any] = {
        "average_accuracy": _mean(last["test"]),
        "dev_accuracy": _mean(last["dev"]),
        "last_row": [round(value, 4) for value in last["test"]],
        "forgetting": None,
        "backward_transfer": None,
        "forward_transfer": None,
        "learning_accuracy": None,
        "negative_flips": None,
        "curve": None,
    }
    if is_reference or steps < 2:
        return found
    lower = [[row["test"][k] for k in range(t + 1)] for t, row in enumerate(rows)]
    matrix = as_matrix(lower)
    found["average_accuracy"] = average_accuracy(matrix)
    found["forgetting"] = forgetting(matrix)
    found["backward_transfer"] = backward_transfer(matrix)
    found["learning_accuracy"] = _mean([lower[t][t] for t in range(steps)])
    found["curve"] = [round(_mean(row), 4) for row in lower]
    found["matrix"] = [[round(value, 4) for value in row] for row in lower]
    ahead = [
        rows[k - 1]["test"][k] - rows[k - 1]["chance"]
        for k in range(1, steps)
        if rows[k - 1]["test"][k] is not None
    ]
    found["forward_transfer"] = _mean(ahead) if ahead else None
    flips = []
    for t in range(1, steps):
        pairs = [
            (before, after)
            for k in range(t)
            for before, after in zip(rows[t - 1]["right"][k], rows[t]["right"][k], strict=True)
        ]
        if pairs:
            flips.append(sum(b and not a for b, a in pairs) / len(pairs))
    found["negative_flips"] = _mean(flips) if flips else None
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
