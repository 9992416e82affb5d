"""The gate with few old rows: a chance with a stated error in place of the observed difference."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.evaluation.few_rows import chance_of_true_loss
from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.statistics.posterior import chance_of_loss
from contlearn.types import CHANCE_OF_LOSS, LabelSpace, RuleOutcome
from tests.benchmarks.few_rows import CHANGES, promoted
from tests.unit.evaluation.made import TAGGING, evidence, pair, paired_answers
from tests.unit.evaluation.test_papers import DECISION, FACTS, REPORT, report_page


@pytest.fixture(scope="module")
def manager():
    return PluginManager(discover=False)


def _old(rows, lost, won, index=0):
    targets, challenger, champion = paired_answers(rows, lost=lost, won=won)
    return pair(targets, challenger, champion, index=index)


def _new():
    """New rows that speak for the challenger: all right, the champion two in three."""
    targets = list("abc" * 10)
    champion = ["a" if target == "b" else target for target in targets]
    return pair(targets, targets, champion, index=9, is_new=True)


def test_few_rows_that_clear_a_challenger_say_the_chance_and_give_no_warning(manager):
    decision = decide(evidence(_old(42, 1, 2), _new()), manager)
    outcome = next(one for one in decision.outcomes if one.rule == "no-regression")
    assert (outcome.passed, outcome.measure, outcome.required) == (True, CHANCE_OF_LOSS, 0.3)
    assert outcome.measured == pytest.approx(float(chance_of_loss(1, 2, 42, 0.03)))
    assert outcome.message.endswith(
        "the difference is +2.4 %. With 42 old rows, the chance that it is truly worse by 3.0 % or "
        "more is 10.2 %; at most 30.0 % are allowed."
    )
    assert decision.promoted is True
    assert decision.warnings == ()
    assert "Only 42 held-out rows" in decision.outcomes[0].message  # under its rule, not in red
    told = outcome.to_json()
    assert (told["measure"], told["measured"], told["required"]) == (
        "chance_of_loss",
        outcome.measured,
        0.3,
    )
    assert RuleOutcome.from_json(told) == outcome


def test_few_rows_that_cannot_clear_a_challenger_keep_its_records(manager):
    """One row fewer of forty is within the margin, and the chance is 36 %."""
    decision = decide(evidence(_old(40, 1, 0), _new()), manager)
    (outcome,) = decision.not_worth
    assert (outcome.rule, outcome.keeps) == ("no-regression", True)
    assert outcome.measured == pytest.approx(0.36, abs=0.005)
    assert "so nothing is held against the records." in outcome.message
    assert decision.verdict == "kept"
    assert "Only 40 held-out rows" in decision.warnings[0]


def test_few_rows_with_a_loss_beyond_the_margin_refuse(manager):
    decision = decide(evidence(_old(40, 2, 0), _new()), manager)
    assert [outcome.rule for outcome in decision.refusals] == ["no-regression"]
    assert "nothing is held" not in decision.refusals[0].message
    assert decision.verdict == "refused"


@pytest.mark.parametrize(
    ("rows", "lost", "won", "verdict"),
    [(10, 0, 0, "promoted"), (7, 0, 0, "kept"), (7, 0, 1, "promoted"), (10, 1, 1, "kept"),
     (10, 1, 0, "refused"), (299, 9, 6, "promoted"), (299, 14, 6, "kept")],
)  # fmt: skip
def test_few_rows_decide_as_the_page_says(manager, rows, lost, won, verdict):
    assert decide(evidence(_old(rows, lost, won), _new()), manager).verdict == verdict


def test_chance_that_is_allowed_is_configured_and_enough_rows_go_by_the_bound(manager):
    sets = (_old(42, 1, 2), _new())
    assert decide(evidence(*sets, chance_of_loss=0.1), manager).verdict == "kept"
    assert decide(evidence(*sets, chance_of_loss=0.11), manager).verdict == "promoted"
    enough = decide(evidence(*sets, min_evidence_rows=42), manager)
    assert {outcome.measure for outcome in enough.outcomes} == {""}


def test_all_old_sets_are_taken_together(manager):
    sets = [_old(20, 1, 1, index=k) for k in range(4)]
    chance = chance_of_true_loss(evidence(*sets), sets)
    assert chance == pytest.approx(float(chance_of_loss(4, 4, 80, 0.03)))


def test_warning_stays_where_no_rule_goes_by_the_chance(manager):
    decision = decide(evidence(_old(42, 1, 2), _new(), rules=("no-harm", "gain")), manager)
    assert "Only 42 held-out rows" in decision.warnings[0]


# metrics that are no share of rows


def test_chance_by_another_metric_is_near_that_of_rows_where_it_is_nearly_a_share():
    """Micro F1 of classes is accuracy, but nobody says so: rows are weighed instead of counted."""
    for lost, won in ((0, 0), (1, 2), (3, 1)):
        sets = [_old(60, lost, won)]
        drawn = chance_of_true_loss(evidence(*sets, metric="micro_f1", resamples=20_000), sets)
        assert drawn == pytest.approx(float(chance_of_loss(lost, won, 60, 0.03)), abs=0.015)


def test_chance_by_macro_f1_sees_that_a_rare_label_is_lost():
    targets = ["a"] * 90 + ["b"] * 6 + ["c"] * 4
    champion, challenger = list(targets), [*targets[:96], "a", "a", "a", "c"]
    sets = [pair(targets, challenger, champion)]
    by_rows = chance_of_true_loss(evidence(*sets, margin=0.1), sets)
    by_labels = chance_of_true_loss(evidence(*sets, margin=0.1, metric="macro_f1"), sets)
    assert by_rows < 0.05
    assert by_labels > 0.6


@pytest.mark.parametrize("right", [True, False])
def test_chance_by_entities_is_not_nothing_where_the_two_answer_alike(right):
    labels = LabelSpace(("O", "B-x", "I-x"))
    targets = [("O", "B-x", "I-x"), ("O", "B-x", "O")] * 20
    answers = targets if right else [("O", "O", "O"), *targets[1:]]
    sets = [pair(targets, answers, answers, task=TAGGING, labels=labels)]
    chance = chance_of_true_loss(evidence(*sets, task=TAGGING, labels=labels), sets)
    assert 0.01 < chance < 0.3
    assert chance == chance_of_true_loss(evidence(*sets, task=TAGGING, labels=labels), sets)


def test_chance_by_another_metric_counts_rows_where_no_answer_can_be_wrong():
    sets = [pair(["a"] * 12, ["a"] * 12, ["a"] * 12)]
    chance = chance_of_true_loss(evidence(*sets, metric="macro_f1"), sets)
    assert chance == pytest.approx(float(chance_of_loss(0, 0, 12, 0.03)))


# what people see, and how often it errs


def test_report_page_says_the_chance_and_nothing_in_red_where_few_rows_cleared_it(manager):
    decision = decide(evidence(_old(42, 1, 2), _new()), manager)
    shown = {"facts": FACTS, "report": REPORT, "name": "m", "version": "4"}
    page = report_page(**shown, decision=decision.to_json())
    sentence = "With 42 old rows, the chance that it is truly worse by 3.0 % or more is 10.2 %"
    assert page.count(sentence) == 1
    assert page.count("Only 42 held-out rows") == 1
    assert "card bad" not in page
    kept = decide(evidence(_old(40, 1, 0), _new()), manager)
    assert "card bad" in report_page(**shown, decision=kept.to_json())
    assert DECISION["warnings"]  # what the other pages of the tests show


def test_stated_error_holds_from_forty_rows_on_and_equal_versions_mostly_pass():
    for rows, twice in ((40, 0.17), (150, 0.09)):
        for disagreement in (0.05, 0.2):
            shares = promoted(rows, disagreement, tuple(CHANGES.values()))
            worse_by_two, worse_by_one, equal, better = shares["chance of at most 30%"]
            assert worse_by_two <= twice
            assert worse_by_one <= 0.36
            assert equal >= 0.45 if disagreement > 0.1 else equal > 0.55
            assert better > equal
            assert max(worse_by_two, worse_by_one) < shares["point"][1]


def test_simulated_counts_decide_as_the_gate_does(manager):
    generator = np.random.default_rng(8)
    for _ in range(60):
        rows = int(generator.integers(4, 120))
        lost, won = generator.binomial(rows, 0.06, size=2)
        right = round(0.85 * rows)
        if lost > right or won > rows - right:
            continue
        case = evidence(_old(rows, int(lost), int(won)), rules=("no-regression",), resamples=200)
        expected = float(chance_of_loss(lost, won, rows, case.config.margin)) <= 0.3
        assert decide(case, manager).promoted is expected
