"""The simulation of tests.benchmarks.gate, in small: the gate errs as seldom as it says."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.plugins.manager import PluginManager
from tests.benchmarks.gate import RIGHT, World, share_promoted

WORLDS = [World(disagreement=0.1), World(metric="macro_f1", labels=6, disagreement=0.1)]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.metric)
def test_challengers_worse_by_the_margin_are_seldom_promoted_and_better_ones_often(world):
    manager = PluginManager(discover=False)
    wrong, bare = share_promoted(manager, world, 200, 300, -0.03, seed=1, resamples=500)
    assert wrong <= 0.10  # of 200 at a true 5 %: more has a chance below 1 in 1 000
    assert 0.35 < bare < 0.65  # what a bare comparison would do
    right, _ = share_promoted(manager, world, 60, 600, 0.02, seed=2, resamples=500)
    assert right >= 0.75


def test_simulated_truth_is_what_was_asked_for():
    world = World(metric="macro_f1", labels=20, skew=1.0, lost_on="rare")
    challenger = world.challenger(-0.03)
    champion = np.full(20, RIGHT)
    assert world.truth(challenger) - world.truth(champion) == pytest.approx(-0.03)
    assert (challenger[:10] == champion[:10]).all()
    generator = np.random.default_rng(0)
    drawn = world.draw(generator, 200_000, challenger, index=0)
    assert drawn.challenger.metrics["macro_f1"] == pytest.approx(world.truth(challenger), abs=0.006)
    assert drawn.champion.metrics["accuracy"] == pytest.approx(RIGHT, abs=0.003)
