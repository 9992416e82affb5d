"""How often the gate is wrong: false promotions and power, by simulated cycles with known truth.

    python -m tests.benchmarks.gate [--cycles 2000] [--only false|power|new]
        [--start N --end M] [--margins 0.03 …] [--rows 2400 …] [--changes 0.02 …]

Each cycle has a champion and a challenger whose true measures are known, because their answers are
drawn from a known table: both right, only one right, or both wrong, label by label. `decide` judges
with the default rules, as in an update. Rows go to results/gate.jsonl; docs/gate.md shows them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from contlearn.evaluation.evidence import metric_of, old_sets
from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.types import LabelSpace
from tests.benchmarks.common import append_row
from tests.unit.evaluation.made import evidence, pair

# The 95 % bound of 2 000 draws at a nominal 5 %: 0.05 + 1.645 * sqrt(0.05 * 0.95 / 2000).
LIMIT = 0.058
RIGHT = 0.85


@dataclass(frozen=True, kw_only=True)
class World:
    """Labels, how common they are, and how often the champion is right on each.

    `skew` 0 makes all labels equally common, 1 the k-th 1 / k as common as the first. `lost_on` says
    where the challenger's change is: on all labels alike, or on the rarer half alone.
    """

    metric: str = "accuracy"
    labels: int = 10
    skew: float = 0.0
    lost_on: str = "all"
    disagreement: float = 0.05

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"label {i:03}" for i in range(self.labels))

    @property
    def shares(self) -> np.ndarray:
        weights = 1.0 / np.arange(1, self.labels + 1) ** self.skew
        return weights / weights.sum()

    def truth(self, right: np.ndarray) -> float:
        """Give the true measure of a model that is right on label c with probability right[c].

        A wrong answer is any other label, each as likely. Shape: right (C,).
        """
        p = self.shares
        if self.metric == "accuracy":
            return float(p @ right)
        wrong = p * (1.0 - right)
        predicted = p * right + (wrong.sum() - wrong) / (self.labels - 1)
        return float((2 * p * right / (p + predicted)).mean())

    def challenger(self, change: float) -> np.ndarray:
        """Give the rates of being right whose true measure is the champion's plus `change`."""
        champion = np.full(self.labels, RIGHT)
        shape = np.ones(self.labels)
        if self.lost_on == "rare":
            shape[: self.labels // 2] = 0.0
        goal = self.truth(champion) + change
        low, high = -RIGHT, 1.0 - RIGHT
        for _ in range(60):
            middle = (low + high) / 2
            if self.truth(champion + middle * shape) < goal:
                low = middle
            else:
                high = middle
        found = champion + low * shape
        assert abs(self.truth(found) - goal) < 1e-9, "no such challenger"
        return found

    def draw(self, generator, rows, challenger, *, index):
        """Draw one held-out set. Shape: challenger (C,)."""
        change = challenger - RIGHT
        apart = np.maximum(self.disagreement, np.abs(change))
        lost, won = (apart - change) / 2, (apart + change) / 2
        expected = generator.choice(self.labels, size=rows, p=self.shares)
        dice = generator.random(rows)
        both = RIGHT - lost[expected]
        old_right = dice < RIGHT
        new_right = (dice < both) | (old_right & (dice >= RIGHT))
        new_right |= (dice >= RIGHT) & (dice < RIGHT + won[expected])
        wrong = (expected + generator.integers(1, self.labels, size=rows)) % self.labels
        names = np.array(self.names, dtype=object)
        return pair(
            names[expected].tolist(),
            names[np.where(new_right, expected, wrong)].tolist(),
            names[np.where(old_right, expected, wrong)].tolist(),
            index=index,
            labels=LabelSpace(self.names),
        )


def new_rows(generator, world, rows=50):
    """Draw the new set: the challenger is right on 80 %, the champion on 50 %."""
    expected = generator.integers(world.labels, size=rows)
    wrong = (expected + generator.integers(1, world.labels, size=rows)) % world.labels
    names = np.array(world.names, dtype=object)
    targets = names[expected].tolist()
    answers = [
        names[np.where(generator.random(rows) < share, expected, wrong)].tolist()
        for share in (0.8, 0.5)
    ]
    labels = LabelSpace(world.names)
    return pair(targets, *answers, index=4, is_new=True, labels=labels)


def cycles(world: World, number: int, rows: int, change: float, *, seed: int) -> Iterator:
    """Make the old and new held-out sets of so many cycles."""
    generator = np.random.default_rng(seed)
    challenger = world.challenger(change)
    sizes = [rows // 4] * 3 + [rows - 3 * (rows // 4)]
    for _ in range(number):
        old = [
            world.draw(generator, size, challenger, index=index) for index, size in enumerate(sizes)
        ]
        yield (*old, new_rows(generator, world))


def share_promoted(manager, world, number, rows, change, *, seed, margin=0.03, **config):
    """Run cycles of one true change on old data; give the share that the gate promotes.

    Returns:
        The gate's share, and that of a bare comparison: observed loss below the margin.
    """
    promoted = bare = 0
    for sets in cycles(world, number, rows, change, seed=seed):
        case = evidence(
            *sets, labels=LabelSpace(world.names), metric=world.metric, margin=margin, **config
        )
        promoted += decide(case, manager).promoted
        metric, old = metric_of(case), old_sets(case)
        after = metric(np.concatenate([s.challenger.statistics for s in old]).sum(axis=0))
        before = metric(np.concatenate([s.champion.statistics for s in old]).sum(axis=0))
        bare += bool(after - before > -margin)
    return promoted / number, bare / number


FALSE = [
    (300, World(metric="macro_f1", disagreement=0.05)),
    (300, World(metric="macro_f1", disagreement=0.1)),
    (300, World(disagreement=0.05)),
    (300, World(disagreement=0.1)),
    (1000, World(disagreement=0.1)),
    (1000, World(metric="macro_f1", disagreement=0.1)),
    (600, World(metric="macro_f1", labels=20, skew=1.0, disagreement=0.1)),
    (600, World(metric="macro_f1", labels=20, skew=1.0, lost_on="rare")),
    (1500, World(metric="macro_f1", labels=60, disagreement=0.1)),
    (3000, World(disagreement=0.1)),
]


def run_false(manager, number: int, start: int = 0, end: int | None = None) -> bool:
    """Measure false promotions: truly worse by exactly the margin, much better on new rows."""
    fine = True
    for rows, world in FALSE[start:end]:
        margin = 0.03
        share, bare = share_promoted(manager, world, number, rows, -margin, seed=rows)
        fine &= share <= LIMIT
        append_row(
            "gate",
            {
                "measure": f"false promotions, {world.metric}, {world.labels} labels"
                + (f" (skewed, lost on {world.lost_on})" if world.skew else "")
                + f", {rows} rows, {world.disagreement:.0%} disagree",
                "value": round(100 * share, 2),
                "unit": "%",
                "beside": f"{number} cycles, truly {margin:.0%} worse; limit {LIMIT:.1%}; a bare "
                f"comparison with the margin promotes {bare:.0%}",
                "kind": "false",
                "metric": world.metric,
                "labels": f"{world.labels}"
                + (
                    f", skewed; lost on {'the rarer half' if world.lost_on == 'rare' else 'all'}"
                    if world.skew
                    else ""
                ),
                "rows": rows,
                "disagreement": world.disagreement,
                "cycles": number,
                "share": share,
                "bare": bare,
            },
        )
    return fine


def run_power(
    manager, number: int, margins: list[float], sizes: list[int], changes: list[float]
) -> None:
    """Measure power: the share promoted over rows, margins and true changes."""
    world = World(disagreement=0.1)
    for margin in margins:
        for rows in sizes:
            for change in changes:
                share, _ = share_promoted(
                    manager, world, number, rows, change, seed=rows, margin=margin, resamples=500
                )
                append_row(
                    "gate",
                    {
                        "measure": f"promoted, margin {margin:.0%}, {rows} rows, truly {change:+.0%}",
                        "value": round(100 * share, 1),
                        "unit": "%",
                        "beside": f"{number} cycles, accuracy, 10 % disagree, 500 draws a bound",
                        "kind": "power",
                        "margin": margin,
                        "rows": rows,
                        "change": change,
                        "cycles": number,
                        "share": share,
                    },
                )


def run_new(manager, number: int) -> None:
    """Measure what new rows decide: old rows say nothing against the challenger."""
    world = World(labels=3, disagreement=0.0)
    names = np.array(world.names, dtype=object)
    labels = LabelSpace(world.names)
    for rows in (5, 12, 30, 60, 200):
        generator = np.random.default_rng(rows)
        counts = dict.fromkeys(
            ("shuffled, known", "shuffled, new", "honest, gain", "honest, even"), 0
        )
        for _ in range(number):
            old = world.draw(generator, 400, world.challenger(0.0), index=0)
            expected = generator.integers(3, size=rows)
            wrong = (expected + generator.integers(1, 3, size=rows)) % 3

            def right(share, dice=generator, expected=expected, wrong=wrong):
                hit = dice.random(len(expected)) < share
                return names[np.where(hit, expected, wrong)].tolist()

            targets, guess = names[expected].tolist(), names[generator.integers(3, size=rows)]
            cases = {
                "shuffled, known": (guess.tolist(), right(1 / 3)),
                "shuffled, new": (guess.tolist(), ["unknown"] * rows),
                "honest, gain": (right(0.8), right(0.5)),
                "honest, even": (right(0.9), right(0.9)),
            }
            wide = LabelSpace((*labels.names, "unknown"))
            for name, (challenger, champion) in cases.items():
                new = pair(targets, challenger, champion, index=1, is_new=True, labels=wide)
                again = pair(
                    old.targets, old.challenger.predictions, old.champion.predictions, labels=wide
                )
                counts[name] += decide(evidence(again, new, labels=wide), manager).promoted
        for name, count in counts.items():
            append_row(
                "gate",
                {
                    "measure": f"promoted by new rows, {rows} rows, {name}",
                    "value": round(100 * count / number, 1),
                    "unit": "%",
                    "beside": f"{number} cycles, three labels, old rows answered alike",
                    "kind": "new",
                    "rows": rows,
                    "case": name,
                    "cycles": number,
                    "share": count / number,
                },
            )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--only", choices=("false", "power", "new"))
    parser.add_argument("--start", type=int, default=0, help="first case of --only false")
    parser.add_argument("--end", type=int, help="case of --only false to stop before")
    parser.add_argument("--margins", type=float, nargs="*", default=[0.02, 0.03, 0.05])
    parser.add_argument("--rows", type=int, nargs="*", default=[300, 600, 1200, 2400])
    parser.add_argument("--changes", type=float, nargs="*", default=[-0.01, 0.0, 0.01, 0.02])
    options = parser.parse_args()
    manager = PluginManager(discover=False)
    started = time.process_time()
    fine = True
    if options.only in (None, "false"):
        fine = run_false(manager, options.cycles, options.start, options.end)
    if options.only in (None, "power"):
        run_power(
            manager,
            max(100, options.cycles // 4),
            options.margins,
            options.rows,
            options.changes,
        )
    if options.only in (None, "new"):
        run_new(manager, max(100, options.cycles // 4))
    sys.stderr.write(f"{time.process_time() - started:.0f} s of processor time\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
