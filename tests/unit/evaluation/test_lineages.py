"""The simulator of lineages decides as the gate does, by its default rules."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.types import Anchor
from tests.benchmarks.lineages import NOW, Counts, Lineages, judge
from tests.unit.evaluation.made import LABELS, evidence, pair

CASES = 500


def answered(right, targets):
    """Answer right where it says so, else with the label that comes next."""
    names = LABELS.names
    wrong = {name: names[(place + 1) % len(names)] for place, name in enumerate(names)}
    return [t if is_right else wrong[t] for is_right, t in zip(right, targets, strict=True)]


def drawn(draw):
    """Draw what one gate sees: whether best version, champion and challenger are right, row by row."""
    rows = int(draw.choice([100, 200, 300, 350, 600, 1000, 2000]))
    best = draw.random(rows) < 0.9
    churn = draw.uniform(0.0, 0.08)
    champion = best ^ (draw.random(rows) < churn)
    kept, regained = draw.uniform(0.96, 1.0), draw.uniform(0.0, 0.6)
    challenger = np.where(champion, draw.random(rows) < kept, draw.random(rows) < regained)
    before = draw.random(60) < 0.8
    after = np.where(before, draw.random(60) < 0.97, draw.random(60) < draw.uniform(0.0, 1.0))
    return best, champion, challenger, before, after


def flips(before, after):
    """Count rows that were lost and won."""
    return int((before & ~after).sum()), int((after & ~before).sum())


def test_simulator_decides_as_the_gate_in_500_random_cases():
    draw, manager = np.random.default_rng(17), PluginManager(discover=False)
    seen = []
    for _ in range(CASES):
        best, champion, challenger, before, after = drawn(draw)
        look = int(draw.integers(1, 101))
        targets = [LABELS.names[i % 3] for i in range(len(best))]
        new_targets = [LABELS.names[i % 3] for i in range(60)]
        old = pair(
            targets,
            answered(challenger, targets),
            answered(champion, targets),
            anchor=answered(best, targets),
        )
        new = pair(
            new_targets, answered(after, new_targets), answered(before, new_targets), is_new=True
        )
        decision = decide(
            evidence(old, new, anchor=Anchor(version=1, look=look), resamples=200),
            manager,
        )
        (lost, won), (old_lost, old_won) = flips(champion, challenger), flips(best, challenger)
        new_lost, new_won = flips(before, after)
        counts = Counts(
            rows=len(best),
            new_rows=60,
            lost=lost,
            won=won,
            old_lost=old_lost,
            old_won=old_won,
            new_lost=new_lost,
            new_won=new_won,
        )
        promoted, _, _ = judge(counts, look, rules=NOW)
        assert bool(promoted) is decision.promoted, (counts, look, decision.outcomes)
        seen.append(decision.promoted)
    assert 0.2 < np.mean(seen) < 0.8, f"one is seldom met: {np.mean(seen)}"


@pytest.mark.parametrize("rows", [300, 2000])
def test_lineage_of_small_losses_stays_within_the_margin(rows):
    lived = Lineages(200, rows, seed=1)
    for _ in range(100):
        lived.update(-0.01, -0.01, rules=NOW)
    assert lived.beyond <= 5.0


def test_honest_gain_is_promoted_at_once_from_2000_rows_on():
    promoted = Lineages(2000, 2000, seed=2).update(0.0, 0.1, rules=NOW)
    assert promoted.mean() >= 0.9
