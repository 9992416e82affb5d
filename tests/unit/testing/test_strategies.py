from __future__ import annotations

import numpy as np
import pytest
import torch

from contlearn.plugins.manager import PluginManager
from contlearn.testing import check_strategy
from contlearn.training.session import Learnt
from contlearn.training.strategies.base import StrategyOptions
from contlearn.training.strategies.naive import Naive

STRATEGIES = PluginManager(discover=False).table("strategy")
QUICK = ("naive",)


class HeadOnly:
    """As the protocol's example has it."""

    name = "head-only"
    summary = "trains nothing but the head"
    reads_history = False

    class Options(StrategyOptions):
        pass

    def __init__(self, options):
        self.options = options

    def learn(self, session):
        session.model.encoder.requires_grad_(False)
        session.fine_tune()
        return Learnt(encoder_changed=False)


@pytest.mark.parametrize(
    "kind",
    [
        HeadOnly,
        *(
            pytest.param(item.implementation, marks=[] if name in QUICK else [pytest.mark.slow])
            for name, item in STRATEGIES.items()
        ),
    ],
)
def test_strategies_that_can_be_used_have_no_problem(kind):
    assert check_strategy(kind) == []


def test_a_strategy_that_draws_without_the_seed_and_writes_into_the_champion_is_found():
    class Careless(Naive):
        name = "careless"

        def learn(self, session):
            learnt = super().learn(session)
            with torch.no_grad():
                session.model.head.bias += float(np.random.default_rng().random()) * 1e-3
            if session.champion is not None:
                (session.champion / "mine.txt").write_text("I was here.")
            return learnt

    assert check_strategy(Careless) == [
        "It changes the champion's files.",
        "Two fits of one request give two models: draw with session.seed.",
    ]


def test_a_strategy_that_learns_nothing_is_found():
    class Idle(Naive):
        name = "idle"

        def learn(self, session):
            return Learnt()

    (problem,) = check_strategy(Idle)
    assert problem.endswith("% right of the records that it has just learnt.")


def test_a_strategy_that_raises_is_named_with_the_place():
    class Raises(Naive):
        name = "raises"

        def learn(self, session):
            raise LookupError("no teacher")

    (problem,) = check_strategy(Raises)
    assert problem.startswith("Raises raises LookupError in learn, line ")
    assert problem.endswith(": no teacher")


def test_what_the_class_lacks_is_said_before_anything_is_learnt():
    class Empty:
        name = "empty"
        summary = "does nothing"
        Options = StrategyOptions

    assert any("the method learn is missing" in problem for problem in check_strategy(Empty))
