"""Lineages of a hundred updates with known truth: what is promoted, and what adds up.

    python -m tests.benchmarks.lineages [--lineages 1000] [--updates 100]

Each lineage is a number of counts: how many of its old held-out rows the champion and the best proven
version have right. A challenger is right on other rows than the champion (`CHURN` of them), truly
better or worse by what the row of the table says; which rows is chance. 60 new held-out rows an
update, of which the champion has four in five right. `judge` decides as the gate's default rules do,
for thousands of lineages at once; a test holds it against them on random cases.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from contlearn.config import GateConfig
from contlearn.evaluation.erosion import level_of
from contlearn.statistics.exact import sign_test
from contlearn.statistics.posterior import chance_of_loss
from tests.benchmarks.common import append_row

CHURN: Final = 0.06
NEW_ROWS: Final = 60
RIGHT: Final = 0.9
CONFIG: Final = GateConfig()
NORMAL: Final = NormalDist()
# What is asked of a challenger: as it was before, with a bound against the first version at the
# confidence of one look, and as it is.
BEFORE, UNCORRECTED, NOW = "before", "uncorrected", "now"
OLD_ROWS: Final = (100, 300, 1000, 2000, 5000)
POWER_ROWS: Final = (1000, 2000, 5000)
POWER_UPDATES: Final = (1, 20, 50)
TRIES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What the gate sees of each lineage: rows that changed sides, as arrays or numbers.

    `lost` and `won` on old rows against the champion, `old_lost` and `old_won` against the best
    proven version, `new_lost` and `new_won` on new rows.
    """

    rows: int
    new_rows: int
    lost: Any
    won: Any
    old_lost: Any
    old_won: Any
    new_lost: Any
    new_won: Any


def score(won: Any, lost: Any, rows: int, margin: float) -> Any:
    """Give `statistics.non_inferiority.shift_score` for arrays."""
    at = -margin
    linear = (2 * rows - won + lost) * at - won - lost
    inside = np.maximum(linear**2 + 8 * rows * lost * at * (1.0 - at), 0.0)
    share = (np.sqrt(inside) - linear) / (4 * rows)
    variance = np.maximum(rows * (2.0 * share + at * (1.0 - at)), 1e-12)
    return (won - lost - rows * at) / np.sqrt(variance)


@cache
def _harmful(rows: int, margin: float, confidence: float) -> Any:
    """Say for each number of lost and won new rows whether `gain` finds a loss."""
    table = np.zeros((rows + 1, rows + 1), dtype=bool)
    for lost in range(rows + 1):
        for won in range(rows + 1 - lost):
            if (won - lost) / rows < -margin - 1e-9:
                table[lost, won] = sign_test(lost, won) < 1.0 - confidence
    return table


@cache
def _chances(rows: int, margin: float) -> Any:
    """Give the chance of a true loss for each number of lost and won old rows."""
    lost, won = np.meshgrid(np.arange(rows + 1), np.arange(rows + 1), indexing="ij")
    chances = np.ones(lost.shape)
    possible = lost + won <= rows
    chances[possible] = chance_of_loss(lost[possible], won[possible], rows, margin)
    return chances


def judge(counts: Counts, looks: Any, *, rules: str, config: GateConfig = CONFIG) -> Any:
    """Say what is promoted, at which looks only the best version decides, and which gain is proven.

    Args:
        counts: What the gate sees.
        looks: The look at the best version that this one is, one a lineage.
        rules: `BEFORE`, `UNCORRECTED` or `NOW`.
        config: Margin and confidence; few rows were judged before by what was observed.
    Returns:
        Three arrays of truth values.
    """
    n, m, margin = counts.rows, counts.new_rows, config.margin
    bound = NORMAL.inv_cdf(config.confidence)
    on_old, on_new = (counts.won - counts.lost) / n, (counts.new_won - counts.new_lost) / m
    strict = config.short_evidence == "refuse"
    if n >= config.min_evidence_rows:
        passes = score(counts.won, counts.lost, n, margin) > bound
    elif config.short_evidence == "chance" and rules != BEFORE:
        passes = _chances(n, margin)[counts.lost, counts.won] <= config.chance_of_loss
    else:
        passes = np.logical_and(on_old > -margin - 1e-9, not strict)
    passes = passes & ~_harmful(m, margin, config.confidence)[counts.new_lost, counts.new_won]
    nothing = np.zeros(np.shape(passes), dtype=bool)
    if rules == NOW:
        weight = config.new_weight
        old_spread = ((counts.won + counts.lost + 1) / n - on_old**2) / n
        new_spread = ((counts.new_won + counts.new_lost + 1) / m - on_new**2) / m
        total = weight * on_new + (1.0 - weight) * on_old
        spread = np.sqrt(weight**2 * new_spread + (1.0 - weight) ** 2 * old_spread)
        asked = NORMAL.inv_cdf(config.worth_confidence)
        passes &= (total >= asked * spread) & ~((on_new < 0) & (on_old < 0))
    if rules == BEFORE or (n < config.min_evidence_rows and not strict):
        return passes, nothing, nothing
    if rules == UNCORRECTED:
        asked = np.full(np.shape(looks), bound)
    else:
        asked = _asked(n, config.confidence)[np.asarray(looks) - 1]
    eroded = score(counts.old_won, counts.old_lost, n, margin) <= asked
    proven = score(counts.old_won, counts.old_lost, n, 0.0) > asked
    return passes & ~eroded, passes, proven


@cache
def _asked(rows: int, confidence: float, looks: int = 2000) -> Any:
    """Give how many standard errors each look asks for, the first one first."""
    levels = [level_of(look, rows, confidence) for look in range(1, looks + 1)]
    return np.array([NORMAL.inv_cdf(1.0 - level) for level in levels])


@dataclass
class Lineages:
    """Many lineages at once. `right` counts old rows by (best version right, champion right)."""

    number: int
    rows: int
    seed: int
    right: dict[tuple[int, int], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)
        self.truth = np.full(self.number, RIGHT)
        self.best = self.truth.copy()
        self.looks = np.ones(self.number, dtype=int)
        self.promotions = np.zeros(self.number, dtype=int)
        known, none = self.draw.binomial(self.rows, self.truth), np.zeros(self.number, dtype=int)
        self.right = {(1, 1): known, (1, 0): none, (0, 1): none, (0, 0): self.rows - known}

    def update(
        self, old: Any, new: Any, *, rules: str, new_rows: int = NEW_ROWS, among: Any = True
    ) -> Any:
        """Make a challenger of each, truly other by `old` and `new`; say which are promoted."""
        old, new = np.broadcast_to(old, self.truth.shape), np.broadcast_to(new, self.truth.shape)
        churn = np.maximum(CHURN, np.abs(old))
        lost_share = np.clip((churn - old) / 2 / self.truth, 0.0, 1.0)
        won_share = np.clip((churn + old) / 2 / (1.0 - self.truth), 0.0, 1.0)
        turned = {
            (best, mine): self.draw.binomial(number, lost_share if mine else won_share)
            for (best, mine), number in self.right.items()
        }
        after = {
            (best, mine): self.right[best, mine] - turned[best, mine] + turned[best, 1 - mine]
            for best, mine in self.right
        }
        churn_new = CHURN + np.abs(new)
        new_lost = self.draw.binomial(new_rows, (churn_new - new) / 2)
        rest = (churn_new + new) / 2 / (1.0 - (churn_new - new) / 2)
        new_won = self.draw.binomial(new_rows - new_lost, rest)
        counts = Counts(
            rows=self.rows,
            new_rows=new_rows,
            lost=turned[1, 1] + turned[0, 1],
            won=turned[1, 0] + turned[0, 0],
            old_lost=after[1, 0],
            old_won=after[0, 1],
            new_lost=new_lost,
            new_won=new_won,
        )
        passes, alone, proven = judge(counts, self.looks, rules=rules)
        passes = passes & among
        self.looks = self.looks + (alone & among)
        truth = self.truth * (1 - lost_share) + (1 - self.truth) * won_share
        self.truth = np.where(passes, truth, self.truth)
        self.best = np.maximum(self.best, self.truth)
        self.promotions = self.promotions + passes
        self.right = {
            key: np.where(passes, after[key], number) for key, number in self.right.items()
        }
        self._renew(passes & proven)
        return passes

    def _renew(self, proven: Any) -> None:
        """Make the champion the best version where its gain is beyond doubt."""
        right, none = self.right, np.zeros(self.number, dtype=int)
        known = right[1, 1] + right[0, 1]
        renewed = {(1, 1): known, (1, 0): none, (0, 1): none, (0, 0): self.rows - known}
        self.right = {key: np.where(proven, renewed[key], right[key]) for key in right}

    @property
    def beyond(self) -> float:
        """Percent of the lineages that are worse than their best version by more than the margin."""
        return 100 * float((self.best - self.truth > CONFIG.margin + 1e-9).mean())

    @property
    def optimism(self) -> Any:
        """Measured less true accuracy of the champions on old rows, in points."""
        measured = (self.right[1, 1] + self.right[0, 1]) / self.rows
        return 100 * (measured - self.truth)


# What is true of each challenger: its name, and its change on old and on new rows.
def changes(draw: np.random.Generator, number: int) -> dict[str, tuple[Any, Any]]:
    """Give the true changes of the table, drawn anew for each update."""
    mixed = np.where(draw.random(number) < 0.1, -0.03, 0.0)
    same = {f"all rows {change:+.1%}": (change, change) for change in (-0.02, -0.01, -0.005, 0.0)}
    return {
        **same,
        "nine in ten equal, one -3.0% on all rows": (mixed, mixed),
        "old rows -1.0%, new rows +10.0%": (-0.01, 0.1),
    }


def erode(lineages: int, updates: int) -> None:
    """Write how many lineages end beyond the margin, by what is true of their challengers."""
    for rows in OLD_ROWS:
        for name in changes(np.random.default_rng(0), 1):
            lived = {}
            for rules in (NOW, UNCORRECTED, BEFORE):
                lived[rules] = Lineages(lineages, rows, seed=rows)
                draw = np.random.default_rng(5)
                for _ in range(updates):
                    old, new = changes(draw, lineages)[name]
                    lived[rules].update(old, new, rules=rules)
            promotions = [f"{lived[rules].promotions.mean():.1f}" for rules in lived]
            append_row(
                "lineages",
                {
                    "measure": f"{updates} updates, {name}, {rows:,} old rows: lineages that end "
                    "worse than their best by more than the margin",
                    "value": round(lived[NOW].beyond, 1),
                    "unit": "%",
                    "beside": f"{lived[BEFORE].beyond:.1f} % by the rules of before, "
                    f"{lived[UNCORRECTED].beyond:.1f} % with them and a bound against the first "
                    f"version at the confidence of one look; promotions {promotions[0]}, "
                    f"{promotions[2]}, {promotions[1]}",
                    "case": {
                        "kind": "erosion",
                        "change": name,
                        "rows": rows,
                        **{rules: round(one.beyond, 1) for rules, one in lived.items()},
                    },
                },
            )


def power(lineages: int) -> None:
    """Write how soon an honest gain of ten points on new rows is promoted."""
    for rows in POWER_ROWS:
        for at in POWER_UPDATES:
            lived = Lineages(lineages, rows, seed=rows + at)
            for _ in range(at - 1):
                lived.update(0.0, 0.0, rules=NOW)
            waiting, tries = np.ones(lineages, dtype=bool), np.zeros(lineages)
            shares = []
            for number in range(1, TRIES + 1):
                # What was kept is measured again with what has come.
                promoted = lived.update(
                    0.0, 0.1, rules=NOW, new_rows=NEW_ROWS * number, among=waiting
                )
                tries += waiting
                waiting &= ~promoted
                shares.append(100 * float((~waiting).mean()))
            append_row(
                "lineages",
                {
                    "measure": f"update {at}, new rows +10 points, old ones equal, {rows:,} old "
                    "rows: promoted at once",
                    "value": round(shares[0], 1),
                    "unit": "%",
                    "beside": f"{shares[-1]:.1f} % within {TRIES} tries, each with what was kept "
                    f"before; {tries.mean():.2f} tries on average",
                    "case": {"kind": "power", "update": at, "rows": rows, "shares": shares},
                },
            )


def reuse(lineages: int, updates: int) -> None:
    """Write how optimistic the measured accuracy becomes on rows that judged so many challengers."""
    for rows in OLD_ROWS:
        lived = {rules: Lineages(lineages, rows, seed=rows) for rules in (NOW, BEFORE)}
        for rules, one in lived.items():
            for _ in range(updates):
                one.update(0.0, 0.0, rules=rules)
        append_row(
            "lineages",
            {
                "measure": f"{updates} updates, all rows +0.0%, {rows:,} old rows: measured "
                "accuracy of the champion on old rows, above the true one",
                "value": round(float(lived[NOW].optimism.mean()), 2),
                "unit": "points",
                "beside": f"{lived[BEFORE].optimism.mean():.2f} by the rules of before",
            },
        )


def single(lineages: int) -> None:
    """Write what one update promotes, by what is true of it."""
    for name in changes(np.random.default_rng(0), 1):
        for rows in (600, 2000, 5000):
            shares = {}
            for rules in (NOW, BEFORE):
                lived = Lineages(lineages, rows, seed=rows)
                old, new = changes(np.random.default_rng(5), lineages)[name]
                shares[rules] = 100 * float(lived.update(old, new, rules=rules).mean())
            append_row(
                "lineages",
                {
                    "measure": f"one update, {name}, {rows:,} old rows: promoted",
                    "value": round(shares[NOW], 1),
                    "unit": "%",
                    "beside": f"{shares[BEFORE]:.1f} % by the rules of before",
                },
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lineages", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=100)
    options = parser.parse_args()
    single(options.lineages * 10)
    erode(options.lineages, options.updates)
    power(options.lineages)
    reuse(options.lineages, options.updates)


if __name__ == "__main__":
    main()
