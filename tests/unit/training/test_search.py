"""The search for settings: where it begins, what it sees, and that a kill changes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from contlearn.config import RangeConfig, TrainingConfig
from contlearn.errors import ConfigError, PluginError, TrainingError
from contlearn.interfaces import no_progress
from contlearn.plugins.manager import PluginManager
from contlearn.training import search as module
from contlearn.training.estimate import with_search
from contlearn.training.fit import fit_challenger
from contlearn.training.search import check_search, score_of, search_settings
from tests.unit.training.conftest import texts

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "batch_size": [8, 16]}


def configured(trials=6, space=SPACE, **more):
    search = {"trials": trials, "space": space, **more}
    return TrainingConfig.model_validate({"search": search, "learning_rate": 1e-3, "epochs": 3})


class Landscape:
    """Stands for a training: the score follows from the rate, best at 2e-3."""

    def __init__(self, *, die_in=None, epochs=3, fail=lambda _settings: False):
        self.tried, self.die_in, self.epochs, self.fail = [], die_in, epochs, fail

    def __call__(self, training, work, on_epoch, progress):
        self.tried.append({"rate": training.learning_rate, "batch": training.batch_size})
        assert not training.search.trials
        if self.die_in is not None and len(self.tried) > self.die_in:
            raise KeyboardInterrupt
        if self.fail(training):
            raise TrainingError("The loss is no longer a number.")
        work.mkdir(parents=True, exist_ok=True)
        score = 1.0 - abs(training.learning_rate - 2e-3)
        curve = [score - 0.1 / (epoch + 1) for epoch in range(self.epochs)]
        for epoch in range(self.epochs):
            on_epoch(curve[: epoch + 1])
        return {"fine_tuning": {"best_score": max(curve)}}


def find(tmp_path, attempt, training=None, last=(), fingerprint="data"):
    return search_settings(
        training or configured(), last=dict(last), attempt=attempt, work=tmp_path,
        fingerprint=fingerprint, progress=no_progress,
    )  # fmt: skip


def test_search_begins_with_the_last_winner_then_with_what_is_configured(tmp_path):
    attempt = Landscape()
    last = {"learning_rate": 7e-3, "batch_size": 8, "epochs": 9}
    found = find(tmp_path, attempt, last=last)
    assert attempt.tried[0] == {"rate": 7e-3, "batch": 8}
    assert attempt.tried[1] == {"rate": 1e-3, "batch": 16}
    assert len(attempt.tried) == 6
    assert found.notes["first_settings"] == {"learning_rate": 7e-3, "batch_size": 8}
    assert found.notes["began_with_last_winner"]
    assert found.notes["score"] >= found.notes["first_score"]
    assert found.training.learning_rate == found.notes["settings"]["learning_rate"]
    assert not found.training.search.trials


def test_search_takes_what_scores_best_and_keeps_the_last_winner_on_a_tie(tmp_path):
    attempt = Landscape()
    found = find(tmp_path / "one", attempt, configured(trials=12))
    tried = [abs(item["rate"] - 2e-3) for item in attempt.tried]
    assert abs(found.training.learning_rate - 2e-3) == min(tried)

    def flat(training, work, on_epoch, progress):
        return {"fine_tuning": {"best_score": 0.5}}

    last = {"learning_rate": 7e-3, "batch_size": 8}
    assert find(tmp_path / "two", flat, last=last).notes["settings"] == last


def test_search_of_the_same_seed_tries_the_same(tmp_path):
    tried = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        attempt = Landscape()
        find(tmp_path / name, attempt, configured().model_copy(update={"seed": seed}))
        tried.append(attempt.tried)
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


def test_search_killed_in_the_middle_goes_on_and_finds_the_same(tmp_path):
    whole, first, second = Landscape(), Landscape(die_in=4), Landscape()
    straight = find(tmp_path / "straight", whole, configured(trials=9))
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "cut", first, configured(trials=9))
    journal = tmp_path / "cut" / "search" / "trials.jsonl"
    with journal.open("a") as lines:
        lines.write('{"settings": {"learning')  # what a kill while writing leaves
    found = find(tmp_path / "cut", second, configured(trials=9))
    assert first.tried[:4] + second.tried == whole.tried
    assert found.training == straight.training
    strip = {"seconds"}
    assert {k: v for k, v in found.notes.items() if k not in strip} == {
        k: v for k, v in straight.notes.items() if k not in strip
    }


def test_search_over_other_data_does_not_use_the_journal(tmp_path):
    find(tmp_path, Landscape(), fingerprint="old")
    attempt = Landscape()
    find(tmp_path, attempt, fingerprint="new")
    assert len(attempt.tried) == 6


def test_search_cuts_trials_short_that_begin_badly_and_only_if_wished(tmp_path):
    begin = {"learning_rate": 2e-3, "batch_size": 8}
    ends = []

    def attempt(training, work, on_epoch, progress):
        for epoch in range(3):
            on_epoch([1.0 - abs(training.learning_rate - 2e-3)] * (epoch + 1))
        ends.append(training.learning_rate)
        return {"fine_tuning": {"best_score": 1.0 - abs(training.learning_rate - 2e-3)}}

    notes = find(tmp_path / "cut", attempt, configured(trials=10), last=begin).notes
    assert 0 < notes["cut_short"] == 10 - len(ends)
    ends.clear()
    unhurried = configured(trials=10, prune=False)
    assert find(tmp_path / "all", attempt, unhurried, last=begin).notes["cut_short"] == 0
    assert len(ends) == 10


def test_search_passes_over_trials_that_fail_unless_all_do(tmp_path):
    attempt = Landscape(fail=lambda training: training.learning_rate > 1e-3)
    notes = find(tmp_path / "some", attempt).notes
    assert notes["failed"] > 0
    assert notes["settings"]["learning_rate"] <= 1e-3
    with pytest.raises(TrainingError, match=r"None of the 6 trials .* no longer a number"):
        find(tmp_path / "all", Landscape(fail=lambda _training: True))


def test_search_stops_when_the_time_is_over_but_never_before_one_trial(tmp_path):
    attempt = Landscape()
    notes = find(tmp_path, attempt, configured(minutes=1e-9)).notes
    assert notes["trials"] == len(attempt.tried) == 1
    assert "limit" in notes["stopped"]


def test_search_without_records_set_aside_uses_the_last_winner_at_once(tmp_path):
    last = {"learning_rate": 7e-3, "batch_size": 8}
    tried = []

    def attempt(training, work, on_epoch, progress):
        tried.append(training)
        return {"choice": {"chosen": "frozen", "validation_rows": 0, "validation": {"frozen": 0.0}}}

    found = find(tmp_path, attempt, last=last)
    assert len(tried) == 1
    assert found.notes["settings"] == last
    assert "no records were set aside" in found.notes["stopped"]


def test_search_without_records_set_aside_and_without_a_winner_uses_what_is_configured(tmp_path):
    def attempt(training, work, on_epoch, progress):
        return {}

    space = {"learning_rate": {"low": 1e-5, "high": 1e-4}, "method_options.rank": [4, 8]}
    found = find(tmp_path, attempt, configured(space=space).model_copy(update={"method": "lora"}))
    # The nearest rate that the space allows; no rank that a sampler drew.
    assert found.notes["settings"] == {"learning_rate": 1e-4}
    assert found.training.method_options == {}


def test_search_fills_a_winner_up_where_the_space_has_grown(tmp_path):
    attempt = Landscape()
    find(tmp_path, attempt, last={"learning_rate": 7e-3})
    assert attempt.tried[0] == {"rate": 7e-3, "batch": 16}


def test_search_keeps_the_saved_training_of_the_winner_only(tmp_path):
    found = find(tmp_path, Landscape())
    assert [p for p in (tmp_path / "search").iterdir() if p.is_dir()] == [found.work]


def test_space_is_the_rate_where_none_is_given(tmp_path):
    attempt = Landscape()
    find(tmp_path, attempt, configured(space={}))
    rates = [item["rate"] for item in attempt.tried]
    assert all(1e-5 <= rate <= 9e-5 for rate in rates)
    assert len(set(rates)) == 6
    lora = configured(space={}).model_copy(update={"method": "lora"})
    assert module._space(lora) == {
        "learning_rate": RangeConfig(low=1e-4, high=2.5e-3, log=True),
    }


def test_score_is_of_the_choice_where_there_was_one():
    choice = {"chosen": "a", "validation_rows": 3, "validation": {"a": 0.7, "b": 0.9}}
    assert score_of({"choice": choice, "fine_tuning": {"best_score": 0.4}}) == 0.7
    assert score_of({"fine_tuning": {"best_score": 0.4}}) == 0.4
    assert score_of({"fine_tuning": {"best_score": None}}) is None
    assert score_of({}) is None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lerning_rate": [1, 2]}, "Did you mean learning_rate"),
        ({"validation_ratio": [0.1, 0.2]}, "cannot be searched"),
        ({"epochs": [0, 2]}, "epochs: 0"),
        ({"epochs": [2]}, "at least two different"),
        ({"learning_rate": {"low": 1.0, "high": 0.1}}, "must be below"),
        ({"dropout": {"low": 0.1, "high": 0.2, "log": True}}, "cannot be searched"),
        ({"weight_decay": {"low": 0.0, "high": 0.2, "log": True}}, "begins above 0"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(space, message):
    with pytest.raises(ValidationError, match=message):
        configured(space=space)


def test_options_of_strategy_and_method_are_checked_before_anything_runs():
    manager = PluginManager(discover=False)
    check_search(configured(space={"strategy_options.fine_tune": ["auto", "always"]}), manager)
    with pytest.raises(PluginError, match="fine_tune"):
        check_search(configured(space={"strategy_options.fine_tune": ["auto", "no"]}), manager)
    with pytest.raises(ConfigError, match="rank"):
        check_search(configured(space={"method_options.rank": [4, 8]}), manager)


def test_another_strategy_leaves_the_options_of_the_configured_one_out():
    training = configured(space={"strategy_options.fine_tune": ["auto", "always"], **SPACE})
    other = training.with_strategy("naive")
    assert set(other.search.space) == set(SPACE)
    assert training.with_strategy("replay") is training


def test_forecast_counts_the_trials_up_to_their_limit():
    def cost(**search):
        training = TrainingConfig.model_validate({"search": search})
        return with_search(training, 100.0)

    assert cost(trials=1) == cost()
    assert cost(trials=5) == pytest.approx(5 * cost())
    assert cost(trials=100, minutes=1) == pytest.approx(2 * cost() + 60)


# -- with a model -------------------------------------------------------------------------------


def settings(trials=4):
    return {
        "search": {"trials": trials, "space": SPACE},
        "strategy_options": {"fine_tune": "always"},
        "checkpoint_steps": 2,
    }


@pytest.mark.slow
def test_update_is_learnt_with_the_winner_and_the_next_one_begins_there(lineage):
    first = lineage.learn(texts(["billing", "garden"], 25), **settings())
    notes = first.notes["search"]
    assert notes["trials"] == 4
    assert not notes["began_with_last_winner"]
    assert notes["first_settings"] == {"learning_rate": 3e-3, "batch_size": 8}
    state = json.loads((lineage.champion / "state" / "state.json").read_text())
    assert state["search"] == notes["settings"]
    second = lineage.learn(texts(["music"], 25), **settings())
    assert second.notes["search"]["began_with_last_winner"]
    assert second.notes["search"]["first_settings"] == notes["settings"]


def test_winner_is_not_trained_twice_and_is_what_a_plain_update_would_give(lineage):
    records = texts(["billing", "garden"], 25)
    searched = fit_challenger(made(lineage.request(records, name="searched", **settings())))
    assert searched.notes["fine_tuning"]["resumed_at"] == searched.notes["fine_tuning"]["steps"]
    plain = {**searched.notes["search"]["settings"], "strategy_options": {"fine_tune": "always"}}
    again = fit_challenger(made(lineage.request(records, name="plain", **plain)))
    assert again.notes["fine_tuning"]["resumed_at"] == 0
    one, two = tensors(searched), tensors(again)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_winner_outlasts_an_update_that_does_not_search(lineage):
    first = lineage.learn(texts(["billing", "garden"], 25), **settings(2))
    lineage.learn(texts(["music"], 5), strategy_options={"fine_tune": "never"})
    state = json.loads((lineage.champion / "state" / "state.json").read_text())
    assert state["search"] == first.notes["search"]["settings"]


class Killed(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


def test_fit_killed_in_a_trial_gives_the_same_challenger(lineage):
    lineage.learn(texts(["billing", "garden"], 25))
    second = texts(["music"], 25)
    straight = fit_challenger(made(lineage.request(second, name="straight", **settings())))
    request = made(lineage.request(second, name="cut", **settings()))

    def kill(stage, done, _total, message):
        if stage == "training" and done == 5 and message.startswith("trial 3"):
            raise Killed

    with pytest.raises(Killed):
        fit_challenger(request, progress=kill)
    assert len((request.work / "search" / "trials.jsonl").read_text().splitlines()) == 3
    steps = []

    def hear(stage, done, _total, message):
        if stage == "training" and message.startswith("trial 3"):
            steps.append(done)

    resumed = fit_challenger(request, progress=hear)
    assert steps[0] == 5  # behind the last step that was saved
    one, two = tensors(straight), tensors(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (straight.state / "state.json").read_bytes() == (
        resumed.state / "state.json"
    ).read_bytes()


def test_no_trial_sees_more_than_the_training_records(lineage, monkeypatch):
    seen = set()
    from contlearn.training.session import FitSession

    encode = FitSession.encode

    def watching(self, records):
        seen.update(r.record_id for r in records)
        return encode(self, records)

    monkeypatch.setattr(FitSession, "encode", watching)
    records = texts(["billing", "garden"], 25)
    lineage.learn(records, **settings(2))
    assert seen == {r.record_id for r in records}


def made(request):
    request.output.mkdir(parents=True, exist_ok=True)
    return request


def tensors(result):
    from contlearn.modeling.checkpoint import load_checkpoint

    model = load_checkpoint(result.checkpoint).model
    return {name: p.detach() for name, p in model.named_parameters()}
