"""Few old rows: how often `no-regression` promotes, by the true change, at several allowed chances.

    python -m tests.benchmarks.few_rows [--cycles 400] [--rows 10 20 …]

A champion and a challenger answer differently on so many of the old rows, and the challenger is truly
worse, equal or better. For accuracy nothing is drawn: all numbers of rows lost and won are gone
through, each with its probability, so that the shares are exact. For macro F1 the answers of so many
cycles are drawn and `decide` judges. A challenger that is not promoted is kept or refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.stats import multinomial

from contlearn.config import GateConfig
from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.statistics.posterior import chance_of_loss
from contlearn.types import LabelSpace
from tests.benchmarks.common import append_row
from tests.benchmarks.gate import World
from tests.unit.evaluation.made import evidence

CONFIG: Final = GateConfig()
MARGIN: Final = CONFIG.margin
ROWS: Final = (10, 20, 40, 80, 150, 299)
DISAGREEMENTS: Final = (0.05, 0.1, 0.2)
CHANCES: Final = (0.05, 0.2, CONFIG.chance_of_loss, 0.4)
CHANGES: Final = {
    "worse_by_6_points": -2 * MARGIN,
    "worse_by_3_points": -MARGIN,
    "equal": 0.0,
    "better_by_2_points": 0.02,
}
# More rows than these are lost, or won, with a probability below 1 in 10 ** 9.
_MOST: Final = 80


def promoted(rows: int, disagreement: float, changes: Sequence[float]) -> dict[str, list[float]]:
    """Give the share promoted of challengers of each true change, by each rule, for accuracy.

    Where the answers cannot differ on so few rows as `disagreement` says, they differ on as many as
    the change needs.
    """
    lost, won = np.divmod(np.arange((_MOST + 1) ** 2), _MOST + 1)
    possible = lost + won <= rows
    lost, won = lost[possible], won[possible]
    chance = chance_of_loss(lost, won, rows, MARGIN)
    passes = {f"chance of at most {most:.0%}": chance <= most for most in CHANCES}
    passes["point"] = (won - lost) / rows > -MARGIN - 1e-9
    shares: dict[str, list[float]] = {rule: [] for rule in passes}
    counts = np.stack([lost, won, rows - lost - won], axis=1)
    for change in changes:
        apart = max(disagreement, abs(change))
        kinds = [(apart - change) / 2, (apart + change) / 2, 1.0 - apart]
        weights = multinomial.pmf(counts, rows, kinds)
        assert abs(weights.sum() - 1.0) < 1e-6, "counts are missing"
        for rule, passed in passes.items():
            shares[rule].append(float(weights[passed].sum()))
    return shares


def drawn(manager: PluginManager, rows: int, changes: Sequence[float], cycles: int) -> list[float]:
    """Give the share that `decide` promotes by macro F1, six labels, 10 % of rows apart."""
    world = World(metric="macro_f1", labels=6, disagreement=0.1)
    labels, shares = LabelSpace(world.names), []
    for change in changes:
        generator = np.random.default_rng(rows)
        challenger = world.challenger(change)
        shares.append(
            sum(
                decide(
                    evidence(
                        world.draw(generator, rows, challenger, index=0),
                        labels=labels,
                        metric=world.metric,
                        rules=("no-regression",),
                        resamples=500,
                    ),
                    manager,
                ).promoted
                for _ in range(cycles)
            )
            / cycles
        )
    return shares


def write(metric: str, rule: str, rows: int, disagreement: float, shares: list[float]) -> None:
    row: dict[str, Any] = {
        "metric": metric,
        "rule": rule,
        "old_rows": rows,
        "differ_percent": round(100 * disagreement),
    }
    for name, share in zip(CHANGES, shares, strict=True):
        row[name] = round(100 * share, 1)
    append_row("few_rows", row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=400)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    options = parser.parse_args()
    changes = tuple(CHANGES.values())
    for rows in options.rows:
        for disagreement in DISAGREEMENTS:
            for rule, shares in promoted(rows, disagreement, changes).items():
                write("accuracy", rule, rows, disagreement, shares)
    manager = PluginManager(discover=False)
    for rows in options.rows:
        rule = f"chance of at most {CONFIG.chance_of_loss:.0%}"
        write("macro_f1", rule, rows, 0.1, drawn(manager, rows, changes, options.cycles))


if __name__ == "__main__":
    main()
