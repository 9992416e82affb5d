"""The forecast of an update: learnt from what former ones took here, never guessed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contlearn.catalog.cycles import change_cycle, create_cycle
from contlearn.config import ReplayConfig, TrainingConfig
from contlearn.context import Context
from contlearn.cycle.forecast import Forecast, forecast_cycle
from contlearn.operations.init import make_workspace
from contlearn.plugins.manager import PluginManager
from contlearn.training.estimate import Work, planned_work
from contlearn.wording import span


@pytest.fixture
def context(tmp_path, tiny_model):
    make_workspace(tmp_path / "ws", task="text-classification", base=str(tiny_model))
    with Context.open(tmp_path / "ws") as opened:
        yield opened


def ingest(context, count, *, name="a"):
    """Take in so many texts, half of each label."""
    from contlearn.operations.ingest import ingest_files

    path = context.workspace.root / f"{name}.csv"
    lines = [f"{name} number {n} of words,{'ab'[n % 2]}\n" for n in range(count)]
    path.write_text("text,label\n" + "".join(lines), encoding="utf-8")
    ingest_files(context, [path])


def timed(context, *, texts, seconds, training, fit, read=0, **more):
    """Write down a cycle that took so long for so many texts."""
    with context.catalog.write() as connection:
        cycle = create_cycle(
            connection, trigger="manual", run_key=None, strategy="replay", champion=None,
            experience=0, promote=True, now=context.clock.now() + timedelta(seconds=1),
        )  # fmt: skip
        numbers = {
            "planned": {"trained": texts, "read": read},
            "took_seconds": seconds,
            "seconds": {"training": training},
            "fit": {"seconds": fit, "samples": texts},
        }
        state = {"state": "promoted", "outcome": "promoted", "attempts": 1, "numbers": numbers}
        change_cycle(connection, cycle, **{**state, **more})


def test_forecast_of_a_first_cycle_is_unknown_and_says_so(context):
    ingest(context, 40)
    forecast = forecast_cycle(context, strategy="replay")
    assert not forecast.is_timed
    assert forecast.to_json()["seconds"] is None
    assert str(forecast) == "how long it takes is unknown yet: no update was timed here"


@pytest.mark.parametrize("pace", [0.002, 0.05, 1.0])
@pytest.mark.parametrize("frame", [3.0, 60.0])
def test_forecast_knows_frame_and_pace_after_one_update(context, frame, pace):
    ingest(context, 400)
    work = forecast_cycle(context, strategy="replay").work
    # A fifth of the work, on a machine and with texts of whatever speed.
    before = Work(work.trained // 5, work.read // 5)
    fit = pace * before.trained
    training = fit + pace * before.reading + frame / 2
    timed(
        context, texts=before.trained, read=before.read, seconds=training + frame / 2,
        training=training, fit=fit,
    )  # fmt: skip
    forecast = forecast_cycle(context, strategy="replay")
    truth = frame + pace * (work.trained + work.reading)
    assert forecast.seconds == pytest.approx(truth, rel=0.01)
    assert forecast.low < truth < forecast.high


def test_range_follows_how_far_forecasts_were_off(context):
    ingest(context, 100)
    for seconds in (20.0, 21.0, 19.0):
        timed(context, texts=300, seconds=seconds, training=10.0, fit=8.0)
    steady = forecast_cycle(context, strategy="replay")
    assert steady.low / steady.seconds == pytest.approx(0.8)
    assert steady.high / steady.seconds == pytest.approx(1.25)
    timed(context, texts=300, seconds=60.0, training=40.0, fit=38.0)
    unsteady = forecast_cycle(context, strategy="replay")
    # One slow update moves the range, not the median.
    assert unsteady.seconds == pytest.approx(steady.seconds, rel=0.1)
    assert unsteady.high / unsteady.seconds > 2.5


@pytest.mark.parametrize(
    "more", [{"outcome": "failed", "state": "failed"}, {"attempts": 2}, {"outcome": None}]
)
def test_cycles_that_failed_or_were_interrupted_teach_nothing(context, more):
    ingest(context, 40)
    timed(context, texts=300, seconds=20.0, training=10.0, fit=8.0, **more)
    assert not forecast_cycle(context, strategy="replay").is_timed


def test_a_search_is_put_on_top_of_one_training(context):
    ingest(context, 40)
    timed(context, texts=300, seconds=20.0, training=10.0, fit=8.0)
    once = forecast_cycle(context, strategy="replay")
    data = context.config.training.model_dump()
    training = TrainingConfig.model_validate({**data, "search": {"trials": 3}})
    context.config = context.config.model_copy(update={"training": training})
    three = forecast_cycle(context, strategy="replay")
    fit = 8.0 / 300 * (once.work.trained + once.work.reading)
    assert three.seconds - once.seconds == pytest.approx(2 * fit, rel=0.01)


class Alone:
    """A plugin's strategy that looks at nothing but what is new."""

    reads_history = False
    shows_exemplars = False


def work_of(strategy, *, history=1000, **options):
    """The work of a built-in strategy, or of a plugin's, with 100 new and 200 buffered records."""
    if isinstance(strategy, str):
        kind, made = PluginManager(discover=False).options("strategy", strategy, options, where="t")
        strategy = kind(made)
    return planned_work(
        strategy,
        new_records=100,
        buffer_records=200,
        training=TrainingConfig(epochs=2),
        replay=ReplayConfig(ratio=0.5),
        history_records=history,
    )


def test_a_strategy_says_itself_what_it_shows_and_whether_it_trains():
    assert work_of(Alone()) == work_of("naive") == work_of("from-scratch") == Work(200, 200)
    assert work_of("er") == work_of("replay") == Work(300, 600)
    assert work_of("replay", fine_tune="never") == Work(0, 300)
    assert work_of("gdumb") == Work(600, 600)
    assert work_of("joint") == Work(2200, 2200)
    assert work_of("frozen-head") == Work(0, 1100)


def test_joint_has_as_much_more_to_do_as_there_is_history():
    def cost(strategy, history=1000):
        work = work_of(strategy, history=history)
        return work.trained + work.reading

    assert cost("naive") < cost("replay") < cost("joint") < cost("joint", 5000)
    # The work of the default does not depend on what is no longer at hand.
    assert cost("replay", 5000) == cost("replay", 0)
    assert cost("joint", 5000) > 10 * cost("replay")


def test_spans_of_time_are_said_as_people_say_them():
    forecast = Forecast(Work(1, 1), seconds=250, low=200, high=400, joint_seconds=1860, timed=3)
    assert str(forecast) == "about 4 min (3 min to 7 min); joint would be about 31 min"
    assert span(7200) == "2 h"
