"""Rules about slices, latency, size and tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from contlearn.config import Config
from contlearn.context import check_names
from contlearn.errors import ConfigError, EvaluationError, PluginError
from contlearn.evaluation.gate import decide
from contlearn.evaluation.runtime import latency_ratio, mean_latency, measure_runtime
from contlearn.evaluation.slices import score_slices, script_of, slices_of
from contlearn.plugins.manager import PluginManager
from tests.unit.evaluation.made import LABELS, TASK, Scripted, evidence, held_out, pair, record


@pytest.fixture(scope="module")
def manager():
    return PluginManager(discover=False)


def _judge(manager, rule, options, *pairs, **facts):
    case = evidence(*pairs, rules=(rule,), rule_options={rule: options})
    return decide(dataclasses.replace(case, **facts), manager).outcomes


def _sliced(scripts, challenger_right, champion_right):
    targets = list("abc" * (len(scripts) // 3))
    wrong = {"a": "b", "b": "c", "c": "a"}
    answers = [
        [t if right else wrong[t] for t, right in zip(targets, rights, strict=True)]
        for rights in (challenger_right, champion_right)
    ]
    return dataclasses.replace(pair(targets, *answers), slices={"script": tuple(scripts)})


# slices


def test_scripts_are_told_by_their_letters():
    assert script_of("Grüße aus Köln 2024") == "Latin"
    assert script_of("你好，世界 ok") == "Han"
    assert script_of("ありがとう") == "Kana"
    assert script_of("مرحبا بالعالم") == "Arabic"
    assert script_of("123 !? 🙂") == ""
    assert script_of("") == ""


def test_slices_name_values_of_enough_rows_only():
    many = [record(i, "a", text="kurz") for i in range(12)]
    few = [
        dataclasses.replace(record(20 + i, "a", text="Привет " * 20), group="one person")
        for i in range(9)
    ]
    first, second = slices_of([many, few], TASK)
    assert set(first["length"]) == {"up to 40 characters"}
    assert set(first["script"]) == {"Latin"}
    assert set(second["script"]) == {""}  # nine rows are too few to be named
    assert set(second["group"]) == {""}  # there is one, of too few rows
    assert set(second["source"]) == {"made"}


def test_lengths_are_listed_from_short_to_long():
    names = ["over 400 characters"] * 30 + ["41 to 120"] * 30 + ["up to 40 characters"] * 30
    made = _sliced(names, [True] * 90, [True] * 90)
    made = dataclasses.replace(made, slices={"length": made.slices["script"]})
    scores = score_slices([made], TASK, LABELS, "accuracy")
    assert [score.value for score in scores] == [
        "up to 40 characters",
        "41 to 120",
        "over 400 characters",
    ]


def test_slice_floor_names_the_slice_that_is_low(manager):
    scripts = ["Latin"] * 60 + ["Han"] * 30
    right = [True] * 60 + [True, False] * 15
    (outcome,) = _judge(
        manager,
        "slice-floor",
        {"by": ["script"], "min_value": 0.8},
        _sliced(scripts, right, [True] * 90),
    )
    assert (outcome.passed, outcome.measured, outcome.required) == (False, 0.5, 0.8)
    assert "Han 50.0 % of 30 rows" in outcome.message


def test_slice_floor_lets_a_slice_pass_that_was_no_better_before(manager):
    scripts = ["Latin"] * 60 + ["Han"] * 30
    right = [True] * 60 + [True, False] * 15
    options = {"by": ["script"], "min_value": 0.8}
    assert _judge(manager, "slice-floor", options, _sliced(scripts, right, right))[0].passed is True


def test_slice_floor_with_few_rows_of_every_value_does_not_apply(manager):
    options = {"by": ["script", "group"], "min_value": 0.8, "min_rows": 50}
    old = _sliced(["Latin"] * 90, [True] * 90, [True] * 90)
    old = dataclasses.replace(old, slices={**old.slices, "group": ("",) * 90})
    outcomes = _judge(manager, "slice-floor", options, old)
    assert [outcome.passed for outcome in outcomes] == [True, None]


def test_slice_floor_of_an_unknown_slice_is_an_error_before_anything_runs(manager):
    gate = {
        "rules": ["slice-floor"],
        "rule_options": {"slice-floor": {"by": ["domain"], "min_value": 0.5}},
    }
    with pytest.raises(ConfigError, match="no slice 'domain'"):
        check_names(Config.model_validate({"gate": gate}), manager)
    check_names(Config.model_validate({"gate": gate, "data": {"slices": ["domain"]}}), manager)


# missing configuration is an error


@pytest.mark.parametrize(
    ("rule", "options", "problem"),
    [
        ("slice-floor", {}, "by: Field required"),
        ("slice-floor", {"by": [], "min_value": 0.5}, "by: Tuple should have at least 1"),
        ("label-floor", {}, "min_f1: Field required"),
        ("negative-flips", {}, "max_rate: Field required"),
        ("calibration", {}, "max_error: Field required"),
        ("label-agreement", {}, "min_agreement: Field required"),
        ("latency", {}, "give max_seconds or max_ratio"),
        ("size", {}, "give max_bytes or max_ratio"),
        ("unknown-tokens", {}, "max_share: Field required"),
    ],
)
def test_a_rule_without_its_limit_is_an_error_never_a_pass(manager, rule, options, problem):
    with pytest.raises(PluginError, match=problem):
        _judge(manager, rule, options, _sliced(["Latin"] * 90, [True] * 90, [True] * 90))
    config = Config.model_validate({"gate": {"rules": [rule], "rule_options": {rule: options}}})
    with pytest.raises(PluginError, match=problem):
        check_names(config, manager)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("latency", {"max_ratio": 1.5}),
        ("size", {"max_ratio": 1.5}),
        ("label-agreement", {"min_agreement": 0.9}),
        ("unknown-tokens", {"max_share": 0.1}),
    ],
)
def test_a_measure_that_nobody_took_is_an_error_never_a_pass(manager, rule, options):
    pairs = _sliced(["Latin"] * 90, [True] * 90, [True] * 90)
    with pytest.raises(EvaluationError, match=f"The rule '{rule}' needs .*not measured"):
        _judge(manager, rule, options, pairs)


# latency


class _Clock:
    """Time that passes only while a predictor works, and jitters with its own generator."""

    def __init__(self):
        self.now = 0.0
        self.dice = np.random.default_rng(0)

    def __call__(self):
        return self.now


class _Slow(Scripted):
    def __init__(self, clock, seconds, noise=0.0):
        super().__init__({})
        self.clock, self.seconds, self.noise = clock, seconds, noise

    def predict(self, inputs):
        for item in inputs:
            factor = 1.0 + self.noise * self.clock.dice.random()
            self.clock.now += factor * self.seconds * len(item["text"])
        return super().predict(inputs)


def _timed(mine, theirs, *, noise=0.0, rows=60):
    clock = _Clock()
    sets = [held_out(list("abc" * (rows // 3)))]
    champion = None if theirs is None else _Slow(clock, theirs, noise)
    return measure_runtime(TASK, sets, _Slow(clock, mine, noise), champion, clock=clock)


def test_latency_is_measured_in_turns_on_texts_of_all_lengths():
    latency = _timed(1e-3, 2e-3)["latency"]
    assert len(latency["challenger"]) == len(latency["champion"]) == latency["texts"] == 40
    assert latency["rounds"] >= 3
    ratio = latency_ratio(latency, confidence=0.95, seed=1)
    assert (ratio.value, ratio.lower, ratio.upper) == pytest.approx((0.5, 0.5, 0.5))
    assert mean_latency(latency, confidence=0.95, seed=1).value == pytest.approx(7e-3, rel=0.1)


def test_latency_goes_by_the_upper_bound_not_the_point(manager):
    runtime = _timed(1e-3, 1e-3, noise=2.0, rows=15)
    ratio = latency_ratio(runtime["latency"], confidence=0.95, seed=7)
    assert ratio.lower < ratio.value < ratio.upper
    between = (ratio.value + ratio.upper) / 2
    (refused,) = _judge(manager, "latency", {"max_ratio": between}, runtime=runtime)
    assert (refused.passed, refused.required) == (False, between)
    assert refused.measured > between
    (passed,) = _judge(manager, "latency", {"max_ratio": 1.01 * ratio.upper}, runtime=runtime)
    assert passed.passed is True


def test_latency_in_seconds_and_against_the_champion(manager):
    options = {"max_seconds": 0.01, "max_ratio": 1.2}
    slow = _judge(manager, "latency", options, runtime=_timed(2e-3, 1e-3))
    assert [outcome.passed for outcome in slow] == [False, False]
    quick = _judge(manager, "latency", options, runtime=_timed(1e-3, 1e-3))
    assert [outcome.passed for outcome in quick] == [True, True]
    first = _judge(manager, "latency", options, runtime=_timed(1e-3, None))
    assert [outcome.passed for outcome in first] == [True, None]


# size and tokens


def test_size_is_compared_with_the_champion(manager):
    pairs = _sliced(["Latin"] * 90, [True] * 90, [True] * 90)
    options = {"max_ratio": 1.1}
    facts = {"parity": {"size_bytes": 120}, "champion_parity": {"size_bytes": 100}}
    (outcome,) = _judge(manager, "size", options, pairs, **facts)
    assert (outcome.passed, outcome.measured) == (False, 1.2)
    (first,) = _judge(manager, "size", options, parity={"size_bytes": 120})
    assert first.passed is None


def test_unknown_tokens_on_new_rows_are_not_diluted_by_old_ones(manager):
    tokens = [
        {"index": 0, "is_new": False, "rows": 900, "pieces": 9000, "unknown": 0, "cut": 0},
        {"index": 1, "is_new": True, "rows": 10, "pieces": 100, "unknown": 40, "cut": 0},
    ]
    (outcome,) = _judge(manager, "unknown-tokens", {"max_share": 0.1}, runtime={"tokens": tokens})
    assert (outcome.passed, outcome.measured) == (False, 0.4)
    assert "40 of 100 on new rows, 0 of 9000 on old rows" in outcome.message


def test_unknown_tokens_of_a_tokenizer_that_has_none_pass_and_say_so(manager):
    tokens = [{"index": 0, "is_new": True, "rows": 9, "pieces": 90, "unknown": 0, "cut": 0}]
    runtime = {"tokens": tokens, "tokenizer": {"unknown_piece": None}}
    (outcome,) = _judge(manager, "unknown-tokens", {"max_share": 0.1}, runtime=runtime)
    assert (outcome.passed, outcome.measured) == (True, 0.0)
    assert "cannot have unknown pieces" in outcome.message
    runtime["tokenizer"] = {"unknown_piece": "<unk>"}
    (counted,) = _judge(manager, "unknown-tokens", {"max_share": 0.1}, runtime=runtime)
    assert "0 of 90 on new rows" in counted.message
