"""Missing and contradicting configuration, and measures that are no numbers: never a pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from contlearn.config import Config
from contlearn.context import check_names
from contlearn.errors import ConfigError, EvaluationError
from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.text_classification import TextClassification
from contlearn.types import LabelSpace
from tests.unit.evaluation.made import TAGGING, evidence, pair, paired_answers


@pytest.fixture(scope="module")
def manager():
    return PluginManager(discover=False)


class Broken(TextClassification):
    """A task whose measures are no numbers, as a plugin's may be on rows it cannot measure."""

    def summarise(self, sums, labels):
        return {k: np.full_like(v, np.nan) for k, v in super().summarise(sums, labels).items()}

    def per_label(self, sums, labels):
        scores = super().per_label(sums, labels)
        return tuple(dataclasses.replace(score, f1=float("nan")) for score in scores)


def _old(rows=400, lost=0, won=0, **more):
    return pair(*paired_answers(rows, lost=lost, won=won), **more)


def _new(champion=True):
    targets = list("abc" * 20)
    return pair(targets, targets, targets if champion else None, index=1, is_new=True)


# contradictions, found before anything runs


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ({"rules": []}, r"gate\.rules is empty"),
        ({"rules": ["gain", "gain"]}, "names gain twice"),
        ({"rule_options": {"size": {"max_bytes": 1}}}, "options for size, which gate.rules does not"),
        ({"rules": ["no-regression"], "min_gain": 0.02}, r"gate\.min_gain is set, and no rule"),
        ({"rules": ["mcnemar"], "short_evidence": "refuse"}, r"gate\.short_evidence is set, and no"),
        ({"rules": ["gain"], "chance_of_loss": 0.1}, r"gate\.chance_of_loss is set, and no rule"),
        ({"short_evidence": "point", "chance_of_loss": 0.1}, r"gate\.short_evidence = 'point' does not go"),
        ({"reserve_rows": 100}, r"gate\.reserve_rows = 100 are fewer than .*min_evidence_rows = 300"),
        ({"confidence": 0.999}, r"gate\.resamples = 2000 are too few for .*0\.999: fewer than 5"),
        ({"metric": "macro-f1"}, "has no metric 'macro-f1'"),
        ({"margin": 2.0}, "gate.margin is 2, but accuracy is a share"),
        ({"min_gain": 1.5}, "gate.min_gain is 1.5, but accuracy is a share"),
    ],
)  # fmt: skip
def test_gate_refuses_a_configuration_that_contradicts_itself(manager, gate, problem):
    with pytest.raises(ConfigError, match=problem):
        check_names(Config.model_validate({"gate": gate}), manager)


def test_gate_takes_the_draws_that_it_asks_for(manager):
    gate = {"confidence": 0.999, "resamples": 5000}
    check_names(Config.model_validate({"gate": gate}), manager)


# held-out rows that are not there


def test_no_old_row_beside_a_champion_is_said_and_refused_where_that_is_configured(manager):
    lenient = decide(evidence(_new(), rules=("minimum-evidence", "no-regression", "gain")), manager)
    assert [outcome.passed for outcome in lenient.outcomes] == [None, None, True]
    assert "no held-out row of earlier experiences" in lenient.warnings[0]
    assert "344 tell a difference of 3.0 %" in lenient.warnings[0]
    for rule in ("minimum-evidence", "no-regression"):
        strict = decide(evidence(_new(), rules=(rule,), short_evidence="refuse"), manager)
        (outcome,) = strict.outcomes
        assert (outcome.passed, outcome.measured, outcome.required) == (False, 0.0, 300.0)
        assert not strict.promoted


def test_without_any_held_out_row_nothing_is_promoted(manager):
    everything = (
        "minimum-evidence", "no-regression", "no-harm", "gain", "floor", "mcnemar", "label-floor",
        "slice-floor", "negative-flips", "calibration",
    )  # fmt: skip
    options = {
        "label-floor": {"min_f1": 0.0},
        "slice-floor": {"by": ["length"], "min_value": 0.0},
        "negative-flips": {"max_rate": 1.0},
        "calibration": {"max_error": 1.0},
    }
    decision = decide(evidence(rules=everything, rule_options=options), manager)
    assert True not in [outcome.passed for outcome in decision.outcomes]
    assert not decision.promoted


@pytest.mark.parametrize("rule", ["no-regression", "no-harm", "gain", "mcnemar"])
def test_rules_beside_a_champion_never_let_a_first_version_pass(manager, rule):
    decision = decide(evidence(_new(champion=False), rules=(rule,)), manager)
    assert (decision.promoted, decision.outcomes[0].passed) == (False, None)


def test_first_version_on_rows_of_one_label_is_refused_and_told_why(manager):
    targets = ["a"] * 50
    (outcome,) = decide(
        evidence(pair(targets, targets, is_new=True), rules=("floor",)), manager
    ).outcomes
    assert outcome.passed is False
    assert "all rows have one label, so no answer can be better; bring rows of others" in (
        outcome.message
    )


# measures that are no numbers


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("no-regression", None),
        ("no-harm", None),
        ("gain", None),
        ("label-floor", {"min_f1": 0.0}),
        ("slice-floor", {"by": ["script"], "min_value": 0.0}),
    ],
)
def test_a_measure_that_is_no_number_is_an_error_never_a_pass(manager, rule, options):
    given = {} if options is None else {rule: options}
    old = dataclasses.replace(_old(task=Broken()), slices={"script": ("Latin",) * 400})
    case = evidence(old, _new(), task=Broken(), rules=(rule,), rule_options=given)
    with pytest.raises(EvaluationError, match="is nan: no number to judge by"):
        decide(case, manager)


def test_floor_of_a_measure_that_is_no_number_is_an_error(manager):
    case = evidence(_new(champion=False), task=Broken(), rules=("floor",))
    with pytest.raises(EvaluationError, match="accuracy of the challenger on 60 rows is nan"):
        decide(case, manager)


@pytest.mark.parametrize("confidence", [float("nan"), -0.5, 7.0])
def test_calibration_of_confidences_that_are_none_is_an_error(manager, confidence):
    old = _old()
    sure = dataclasses.replace(old.challenger, confidences=(0.9,) * 399 + (confidence,))
    old = dataclasses.replace(old, challenger=sure)
    options = {"calibration": {"max_error": 1.0}}
    with pytest.raises(EvaluationError, match="needs a confidence between 0 and 1 for every row"):
        decide(evidence(old, rules=("calibration",), rule_options=options), manager)


def test_calibration_is_no_rule_for_a_task_without_confidences(manager):
    tags = [("B-x", "O")] * 20
    old = pair(tags, tags, tags, task=TAGGING, labels=LabelSpace(("O", "B-x", "I-x")))
    options = {"calibration": {"max_error": 1.0}}
    case = evidence(old, task=TAGGING, rules=("calibration",), rule_options=options)
    with pytest.raises(EvaluationError, match="'token-classification' have none"):
        decide(case, manager)


# slices


def test_slice_floor_by_a_field_that_no_row_has_is_a_refusal(manager):
    options = {"slice-floor": {"by": ["script", "team"], "min_value": 0.5}}
    old = dataclasses.replace(_old(), slices={"script": ("Latin",) * 400})
    decision = decide(evidence(old, rules=("slice-floor",), rule_options=options), manager)
    assert [outcome.passed for outcome in decision.outcomes] == [True, False]
    assert decision.outcomes[1].message.startswith("By team: no held-out row has a value of it.")
    assert not decision.promoted


def test_champion_that_was_not_timed_is_an_error(manager):
    latency = {"texts": 3, "rounds": 3, "challenger": [0.1, 0.1, 0.1], "champion": None}
    options = {"latency": {"max_ratio": 1.5}}
    case = evidence(_old(), rules=("latency",), rule_options=options)
    case = dataclasses.replace(case, runtime={"latency": latency})
    with pytest.raises(EvaluationError, match="needs 'latency of the champion'"):
        decide(case, manager)
