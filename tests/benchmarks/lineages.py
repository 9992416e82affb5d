"""Lineages of a hundred updates with known truth: what is promoted, and what adds up.

    python -m tests.benchmarks.lineages [--lineages 1000] [--updates 100]

Each lineage is a number of counts: how many of its old held-out rows the champion has right. A
challenger is right on other rows than the champion (`CHURN` of them), truly better or worse by what
the row of the table says; which rows is chance. 60 new held-out rows an update, of which the champion
has four in five right. A lineage is judged by `no-regression` (with a normal bound in place of the
bootstrap), `gain` (its bound on losses) and, in the second half of the rows, `worth`, whose chance is
computed as the rule does.
"""

from __future__ import annotations

import argparse
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from contlearn.config import GateConfig
from tests.benchmarks.common import append_row

CHURN: Final = 0.06
NEW_ROWS: Final = 60
RIGHT: Final = 0.9
CONFIG: Final = GateConfig()
BOUND: Final = NormalDist().inv_cdf(CONFIG.confidence)
ASKED: Final = NormalDist().inv_cdf(CONFIG.worth_confidence)
# Old, new: the true change an update.
CHANGES: Final = ((-0.02, -0.02), (-0.01, -0.01), (-0.005, -0.005), (0.0, 0.0), (0.0, 0.1))


def side(won: Any, lost: Any, rows: int) -> tuple[Any, Any]:
    """Give difference and variance of a side's share of right rows, as the rule `worth` counts."""
    difference = (won - lost) / rows
    return difference, ((won + lost + 1) / rows - difference**2) / rows


def live(
    lineages: int, updates: int, rows: int, change: tuple[float, float], *, worth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Let lineages live; give each one's promotions and its true loss against its best version."""
    draw = np.random.default_rng(rows)
    old, new = change
    truth = np.full(lineages, RIGHT)
    best, promoted = truth.copy(), np.zeros(lineages, dtype=int)
    right = draw.binomial(rows, truth)
    churn_new = CHURN + abs(new)
    for _ in range(updates):
        lost_share = np.minimum((CHURN - old) / 2 / truth, 1.0)
        won_share = np.minimum((CHURN + old) / 2 / (1.0 - truth), 1.0)
        lost, won = draw.binomial(right, lost_share), draw.binomial(rows - right, won_share)
        new_lost = draw.binomial(NEW_ROWS, (churn_new - new) / 2, lineages)
        rest = (churn_new + new) / 2 / (1.0 - (churn_new - new) / 2)
        new_won = draw.binomial(NEW_ROWS - new_lost, rest)
        on_old, old_variance = side(won, lost, rows)
        on_new, new_variance = side(new_won, new_lost, NEW_ROWS)
        if rows >= CONFIG.min_evidence_rows:
            passes = on_old - BOUND * np.sqrt(old_variance) > -CONFIG.margin
        else:
            passes = on_old > -CONFIG.margin
        passes &= on_new + BOUND * np.sqrt(new_variance) >= -CONFIG.margin
        if worth:
            share = CONFIG.new_weight
            total = share * on_new + (1.0 - share) * on_old
            spread = np.sqrt(share**2 * new_variance + (1.0 - share) ** 2 * old_variance)
            passes &= (total / spread >= ASKED) & ~((on_new < 0) & (on_old < 0))
        right = np.where(passes, right - lost + won, right)
        truth = np.where(passes, truth * (1 - lost_share) + (1 - truth) * won_share, truth)
        best, promoted = np.maximum(best, truth), promoted + passes
    return promoted, best - truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lineages", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=100)
    options = parser.parse_args()
    for old, new in CHANGES:
        told = "new rows truly +10 points, old ones equal" if new > old else f"all rows {old:+.1%}"
        for rows in (600, 2000, 5000):
            first, lived = {}, {}
            for worth in (False, True):
                first[worth], _ = live(options.lineages * 10, 1, rows, (old, new), worth=worth)
                lived[worth] = live(
                    options.lineages, options.updates, rows, (old, new), worth=worth
                )
            append_row(
                "lineages",
                {
                    "measure": f"one update, {told}, {rows} old rows: promoted",
                    "value": round(100 * float(first[True].mean()), 1),
                    "unit": "%",
                    "beside": f"{100 * first[False].mean():.1f} % without `worth`",
                },
            )
            beyond = {
                w: 100 * float((loss > CONFIG.margin + 1e-9).mean())
                for w, (_, loss) in lived.items()
            }
            append_row(
                "lineages",
                {
                    "measure": f"{options.updates} updates, {told}, {rows} old rows: lineages that "
                    "end worse than their best by more than the margin",
                    "value": round(beyond[True], 1),
                    "unit": "%",
                    "beside": f"{beyond[False]:.1f} % without `worth`; promotions "
                    f"{lived[True][0].mean():.1f} and {lived[False][0].mean():.1f}",
                },
            )


if __name__ == "__main__":
    main()
