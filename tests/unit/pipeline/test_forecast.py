from __future__ import annotations

import pytest

from contlearn.config import ReplayConfig, TrainingConfig
from contlearn.pipeline.context import Context
from contlearn.pipeline.forecast import Forecast, forecast_cycle, in_words
from contlearn.pipeline.making import make_workspace
from contlearn.training.estimate import estimate_seconds


@pytest.fixture
def workspace(tmp_path, tiny_model):
    make_workspace(tmp_path / "ws", task="text-classification", base=str(tiny_model))
    return tmp_path / "ws"


def test_forecast_of_a_first_cycle_says_that_nothing_was_timed(workspace):
    with Context.open(workspace) as context:
        forecast = forecast_cycle(context, strategy="replay")
    assert not forecast.is_timed
    assert forecast.seconds > 0
    assert "nothing was timed here yet" in str(forecast)


def test_joint_costs_as_much_more_as_there_is_history():
    def cost(strategy, history):
        return estimate_seconds(
            new_records=100,
            buffer_records=200,
            training=TrainingConfig(strategy=strategy),
            replay=ReplayConfig(),
            history_records=history,
            texts_per_second=10.0,
        )

    assert cost("naive", 0) < cost("replay", 0) < cost("joint", 1000) < cost("joint", 5000)
    # The cost of the default does not depend on what is no longer at hand.
    assert cost("joint", 5000) > 10 * cost("replay", 0)


def test_spans_of_time_are_said_as_people_say_them():
    assert str(Forecast(seconds=250, joint_seconds=1860, is_timed=True)) == (
        "about 4 min; joint would be about 31 min"
    )
    assert in_words(7200) == "2.0 h"
