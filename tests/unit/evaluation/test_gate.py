from __future__ import annotations

import random
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from contlearn.errors import ConfigError, EvaluationError, PluginError
from contlearn.evaluation.evidence import (
    association_chance,
    compare,
    least_rows,
    metric_of,
    rows_needed,
)
from contlearn.evaluation.gate import decide
from contlearn.plugins import hookimpl
from contlearn.plugins.manager import PluginManager
from contlearn.statistics import bootstrap
from contlearn.statistics.bootstrap import paired_difference
from contlearn.statistics.exact import sign_test
from contlearn.tasks.base import TaskBase
from contlearn.types import LabelSpace, RuleOutcome
from tests.unit.evaluation.made import (
    LABELS,
    TAGGING,
    TASK,
    answers_of,
    evidence,
    pair,
    paired_answers,
)


@pytest.fixture(scope="module")
def manager():
    return PluginManager(discover=False)


def _judge(manager, rule, *pairs, **options):
    outcomes = decide(evidence(*pairs, rules=(rule,), **options), manager).outcomes
    return outcomes[0] if len(outcomes) == 1 else outcomes


def _old(rows, lost, won, index=0, **more):
    targets, challenger, champion = paired_answers(rows, lost=lost, won=won, **more)
    return pair(targets, challenger, champion, index=index)


def _new(targets, challenger, champion=None, index=9):
    return pair(targets, challenger, champion, index=index, is_new=True)


# what every rule says alike


@pytest.mark.parametrize(
    ("rule", "champion", "message"),
    [
        ("gain", None, "Not applicable: There is no champion to compare with."),
        ("no-harm", None, "Not applicable: There is no champion to compare with."),
        ("mcnemar", None, "Not applicable: no champion, or no old held-out rows."),
        ("floor", list("abc"), "Not applicable: The champion is the yardstick now."),
    ],
)
def test_rule_that_does_not_apply_says_why_in_one_form(manager, rule, champion, message):
    outcome = _judge(manager, rule, _new(list("abc"), list("abc"), champion))
    assert (outcome.rule, outcome.message) == (rule, message)
    assert (outcome.passed, outcome.measured, outcome.required) == (None, None, None)


# no-regression


def test_no_regression_passes_an_equal_challenger(manager):
    outcome = _judge(manager, "no-regression", _old(400, 10, 10))
    assert outcome.passed is True
    assert outcome.required == -0.03
    assert -0.03 < outcome.measured < 0.0
    assert "400 old held-out rows" in outcome.message


def test_no_regression_refuses_a_loss_of_the_margin(manager):
    assert _judge(manager, "no-regression", _old(1000, 40, 10)).passed is False


def test_no_regression_refuses_what_it_cannot_exclude_although_the_point_is_inside(manager):
    outcome = _judge(manager, "no-regression", _old(400, 30, 22))
    assert outcome.passed is False
    assert "the difference is -2.0 %" in outcome.message


def test_no_regression_pools_all_old_sets(manager):
    sets = [_old(100, 1, 1, index=k) for k in range(4)]
    assert "400 old held-out rows" in _judge(manager, "no-regression", *sets).message


def test_no_regression_with_few_rows_goes_by_the_point_and_warns_where_that_is_configured(manager):
    point = {"rules": ("no-regression",), "short_evidence": "point"}
    decision = decide(evidence(_old(100, 5, 3), **point), manager)
    assert (decision.outcomes[0].passed, decision.outcomes[0].measured) == (
        True,
        pytest.approx(-0.02),
    )
    assert "Only 100 held-out rows" in decision.warnings[0]
    # 8 of 100 rows differ: least 241 rows, 550 for a power of 80 %.
    assert "The answers differ on 8.0 % of them" in decision.warnings[0]
    assert "141 more are the least, and 450 more do it in 4 cases of 5" in decision.warnings[0]
    refused = decide(evidence(_old(100, 7, 3), **point), manager)
    assert (refused.verdict, refused.outcomes[0].measure) == ("refused", "")


def test_no_regression_with_few_rows_refuses_where_that_is_configured(manager):
    outcome = _judge(manager, "no-regression", _old(100, 0, 3), short_evidence="refuse")
    assert (outcome.passed, outcome.measured, outcome.required) == (False, 100.0, 300.0)


def test_no_regression_goes_by_the_configured_metric(manager):
    """Accuracy hides the loss of a rare label, macro F1 does not."""
    targets = ["a"] * 380 + ["b"] * 20
    champion, challenger = list(targets), ["a"] * 394 + ["b"] * 6
    assert (
        _judge(manager, "no-regression", pair(targets, challenger, champion), margin=0.06).passed
        is True
    )
    old = evidence(
        pair(targets, challenger, champion),
        metric="macro_f1",
        margin=0.06,
        rules=("no-regression",),
    )
    assert decide(old, manager).outcomes[0].passed is False


# minimum-evidence


def test_minimum_evidence_says_how_many_rows_are_missing_for_what(manager):
    few = _old(100, 3, 2)  # 5 % of the rows differ
    outcome = _judge(manager, "minimum-evidence", few)
    assert (outcome.passed, outcome.measured, outcome.required) == (None, 100.0, 300.0)
    # 151 rows are the least at a margin of 3 %, 344 give a power of 80 %.
    assert "51 more are the least, and 244 more do it in 4 cases of 5" in outcome.message
    refused = decide(evidence(few, short_evidence="refuse"), manager)
    assert refused.outcomes[0].passed is False
    assert refused.promoted is False


def test_minimum_evidence_passes_enough_rows_and_does_not_apply_at_first(manager):
    assert _judge(manager, "minimum-evidence", _old(300, 3, 2)).passed is True
    targets = list("aab" * 20)
    assert _judge(manager, "minimum-evidence", _new(targets, targets)).passed is None


# no-harm


def test_no_harm_names_the_experience_that_is_harmed(manager):
    sets = [_old(100, 2, 2, index=k) for k in range(5)]
    outcome = _judge(manager, "no-harm", *sets, _old(100, 20, 1, index=5))
    assert outcome.passed is False
    assert outcome.message.startswith(
        "Experience 6 is harmed: accuracy on its 100 held-out rows went from 85.0 % to 66.0 %"
    )


def test_no_harm_lets_losses_inside_the_margin_and_noise_pass(manager):
    assert _judge(manager, "no-harm", _old(5000, 100, 20)).passed is True  # 1.6 %, significant
    assert _judge(manager, "no-harm", _old(40, 4, 2)).passed is True  # 5 %, but chance


def test_no_harm_goes_by_the_exact_test_for_accuracy(manager):
    """Five rows lost of five that changed: 1 of 32 by chance, below 5 %; four: 1 of 16."""
    assert _judge(manager, "no-harm", _old(100, 5, 0)).passed is False
    assert _judge(manager, "no-harm", _old(100, 4, 0)).passed is True


def test_no_harm_is_corrected_for_the_number_of_sets(manager):
    """Equal versions on many sets: one of them looks bad by chance, and that is no harm."""
    generator = np.random.default_rng(3)
    refused = 0
    for _ in range(40):
        sets = []
        for k in range(12):
            targets = generator.choice(LABELS.names, size=60).tolist()
            first, second = (answers_of(targets, 0.85, generator) for _ in range(2))
            sets.append(pair(targets, first, second, index=k))
        outcomes = decide(evidence(*sets, rules=("no-harm",), resamples=400), manager).outcomes
        refused += any(outcome.passed is False for outcome in outcomes)
    assert refused <= 6  # nominal 5 %: more than 6 of 40 has a chance below 1 %


# gain


def test_gain_refuses_shuffled_labels(manager):
    generator = np.random.default_rng(0)
    passed = 0
    for _ in range(60):
        targets = generator.choice(LABELS.names, size=30).tolist()
        first, second = (generator.choice(LABELS.names, size=30).tolist() for _ in range(2))
        passed += _judge(manager, "gain", _new(targets, first, second), resamples=200).passed
    assert passed <= 9  # level 2/30: more than 9 of 60 has a chance below 1 %


def test_gain_refuses_shuffled_labels_that_the_champion_does_not_know(manager):
    """A few hits by chance are a gain over a champion that can have none."""
    generator = np.random.default_rng(1)
    names = tuple(f"new{i}" for i in range(15))
    labels = LabelSpace((*LABELS.names, *names))
    targets = generator.choice(names, size=75).tolist()
    challenger = generator.choice(names, size=75).tolist()
    shuffled = pair(targets, challenger, ["a"] * 75, index=1, is_new=True, labels=labels)
    outcome = decide(evidence(shuffled, labels=labels, rules=("gain",)), manager).outcomes[0]
    assert outcome.measured > 0.03
    assert outcome.passed is False
    assert "no better than guesses" in outcome.message


def test_gain_refuses_guessing_by_label_frequency(manager):
    targets = ["a"] * 54 + ["b"] * 6
    assert _judge(manager, "gain", _new(targets, ["a"] * 60, ["a"] * 60)).passed is False


def test_gain_passes_an_honest_batch_with_few_rows(manager):
    targets = list("abcabcabcabc")
    outcome = _judge(
        manager, "gain", _new(targets, [*targets[:9], "a", "a", "a"], targets[:5] + ["a"] * 7)
    )
    assert outcome.passed is True


def test_gain_passes_where_the_champion_is_good_already(manager):
    targets = list("abc" * 10)
    one_worse = ["b", *targets[1:]]
    assert _judge(manager, "gain", _new(targets, one_worse, targets)).passed is True
    assert _judge(manager, "gain", _new(targets, targets, targets)).passed is True


def test_gain_passes_new_labels_that_are_learnt(manager):
    targets = list("ccbb" * 5)
    assert (
        _judge(manager, "gain", _new(targets, [*targets[:15], *"aaaaa"], ["a"] * 20)).passed is True
    )


def test_gain_refuses_what_the_champion_does_significantly_better(manager):
    targets = list("abc" * 20)
    worse = ["b" if i % 4 == 0 else t for i, t in enumerate(targets)]
    outcome = _judge(manager, "gain", _new(targets, worse, targets))
    assert outcome.passed is False
    assert "a loss beyond 3.0 % which chance does not explain" in outcome.message


def test_gain_with_one_new_label_asks_for_right_answers(manager):
    targets = ["c"] * 20
    assert _judge(manager, "gain", _new(targets, ["c"] * 12 + ["a"] * 8, ["a"] * 20)).passed is True
    assert _judge(manager, "gain", _new(targets, ["a"] * 20, ["a"] * 20)).passed is False


def test_gain_asks_for_the_configured_gain(manager):
    targets = list("abc" * 40)
    champion = ["b" if i % 5 == 0 else t for i, t in enumerate(targets)]
    new = _new(targets, targets, champion)
    assert _judge(manager, "gain", new, min_gain=0.1).passed is True
    assert "the gain must be 20.0 %" in _judge(manager, "gain", new, min_gain=0.2).message
    tiny = _new(targets[:20], targets[:20], ["b", *targets[1:20]])
    assert "may be chance" in _judge(manager, "gain", tiny, min_gain=0.01).message


def test_gain_without_new_rows_is_an_answer(manager):
    old = _old(400, 0, 0)
    decision = decide(evidence(old, rules=("no-regression", "gain")), manager)
    assert [outcome.passed for outcome in decision.outcomes] == [True, None]
    assert decision.promoted is True
    assert "no held-out row" in decision.warnings[0]
    assert _judge(manager, "gain", old, short_evidence="refuse").passed is False


def test_gain_of_entities_refuses_types_dealt_out_at_random(manager):
    generator = np.random.default_rng(5)
    types, labels = (
        ("x", "y", "z"),
        LabelSpace(("O", *[p + t for t in "xyz" for p in ("B-", "I-")])),
    )
    targets = [("O", f"B-{generator.choice(types)}", "O") for _ in range(40)]
    shuffled = [("O", f"B-{generator.choice(types)}", "O") for _ in range(40)]
    honest = [t if i % 4 else ("O", "O", "O") for i, t in enumerate(targets)]
    nothing = [("O", "O", "O")] * 40
    for answers, passed in ((shuffled, False), (honest, True)):
        new = pair(targets, answers, nothing, index=1, is_new=True, task=TAGGING, labels=labels)
        outcome = decide(
            evidence(new, task=TAGGING, labels=labels, rules=("gain",)), manager
        ).outcomes[0]
        assert outcome.passed is passed


# floor


def test_floor_judges_the_first_version_only(manager):
    targets = list("aab" * 20)
    good, champion = _new(targets, targets), _new(targets, targets, targets)
    assert _judge(manager, "floor", good).passed is True
    assert _judge(manager, "floor", champion).passed is None
    assert _judge(manager, "gain", good).passed is None


def test_floor_refuses_the_commonest_label_and_guesses(manager):
    targets = list("aab" * 20)
    outcome = _judge(manager, "floor", _new(targets, ["a"] * 60))
    assert (outcome.passed, outcome.required) == (False, pytest.approx(2 / 3))
    guesses = np.random.default_rng(0).permutation(targets).tolist()
    assert _judge(manager, "floor", _new(targets, guesses)).passed is False


def test_first_version_without_held_out_rows_is_not_promoted(manager):
    decision = decide(evidence(), manager)
    assert decision.promoted is False
    assert [outcome.passed for outcome in decision.outcomes] == [None] * 6 + [False]


# worth


def _news(lost, won, rows=60):
    targets, challenger, champion = paired_answers(rows, lost=lost, won=won)
    return pair(targets, challenger, champion, index=9, is_new=True)


@pytest.mark.parametrize(
    ("old", "new", "passed"),
    [
        ((60, 60), (2, 2), False),  # equal
        ((0, 0), (0, 0), False),  # the same answers
        ((60, 60), (3, 9), True),  # ten points on what is new
        ((70, 50), (3, 9), True),  # and one lost on what is old
        ((70, 50), (2, 2), False),
        ((50, 70), (2, 2), False),  # one won on what is old: six new rows of doubt
        ((61, 60), (3, 2), False),  # worse on both
        ((0, 300), (2, 2), True),
        ((60, 60), (2, 3), False),
    ],
)
def test_change_is_worth_it_when_new_and_old_rows_together_speak_for_it(manager, old, new, passed):
    outcome = _judge(manager, "worth", _old(2000, *old), _news(*new))
    assert (outcome.passed, outcome.keeps) == (passed, not passed)


def test_equal_challenger_is_kept_and_one_that_is_harmful_refused(manager):
    rules = ("no-regression", "gain", "worth")
    equal = decide(evidence(_old(2000, 60, 60), _news(2, 2), rules=rules), manager)
    assert (equal.verdict, equal.promoted, equal.refusals) == ("kept", False, ())
    harmful = decide(evidence(_old(2000, 160, 20), _news(2, 2), rules=rules), manager)
    assert harmful.verdict == "refused"
    better = decide(evidence(_old(2000, 60, 60), _news(3, 9), rules=rules), manager)
    assert better.verdict == "promoted"


def test_chance_of_a_gain_is_that_of_both_sides_by_their_weights(manager):
    # (6 - 2) of 50 new rows, (1 - 3) of 200 old ones; one more row differs on each side.
    new, old = 4 / 50, -2 / 200
    spread = ((9 / 50 - new**2) / 50 + (5 / 200 - old**2) / 200) / 4
    expected = NormalDist().cdf((new + old) / 2 / spread**0.5)
    outcome = _judge(manager, "worth", _old(200, 3, 1), _news(2, 6, rows=50))
    assert outcome.measured == pytest.approx(expected)
    assert outcome.required == 0.73
    assert "accuracy: +8.0 % on 50 new rows, -1.0 % on 200 old rows" in outcome.message
    only_new = _judge(manager, "worth", _old(200, 3, 1), _news(2, 6, rows=50), new_weight=1.0)
    assert only_new.measured == pytest.approx(
        NormalDist().cdf(new / ((9 / 50 - new**2) / 50) ** 0.5)
    )
    assert "old" not in only_new.message


def test_metric_that_is_no_share_is_resampled(manager):
    targets = list("abc" * 40)
    wrong = ["a"] * 12 + targets[12:]
    good = _judge(manager, "worth", _new(targets, targets, wrong), metric="macro_f1")
    assert (good.passed, good.measured) == (True, 1.0)
    bad = _judge(manager, "worth", _new(targets, wrong, targets), metric="macro_f1")
    assert (bad.passed, bad.keeps, bad.measured) == (False, True, 0.0)


def test_label_that_the_champion_cannot_give_speaks_by_its_rows(manager):
    targets = ["a"] * 54 + ["c"] * 6
    champion = ["a"] * 60
    assert _judge(manager, "worth", _old(600, 18, 18), _new(targets, targets, champion)).passed
    none_right = _judge(manager, "worth", _old(600, 18, 18), _new(targets, champion, champion))
    assert none_right.keeps


def test_what_is_kept_says_how_many_rows_would_have_shown_a_gain(manager):
    outcome = _judge(manager, "worth", _old(2000, 60, 60), _news(2, 2))
    needed = rows_needed(0.03, 4 / 60, 0.73)
    assert f"It would take {needed} new held-out rows to show a gain of 3.0 %" in outcome.message
    assert "and there are 60" in outcome.message
    many = _judge(manager, "worth", _old(2000, 60, 60), _news(20, 20, rows=3000))
    assert "Its 3000 new rows would have shown a gain of 3.0 % in 4 cases of 5" in many.message


def test_worth_asks_nothing_without_a_champion_or_without_rows(manager):
    targets = list("aab" * 20)
    assert _judge(manager, "worth", _new(targets, targets)).passed is None
    assert _judge(manager, "worth").passed is None


@pytest.mark.parametrize("key", ["new_weight", "worth_confidence"])
def test_keys_of_worth_are_refused_where_the_rule_is_not_asked(manager, key):
    with pytest.raises(ConfigError, match=key):
        decide(evidence(_old(400, 1, 1), rules=("no-harm",), **{key: 0.6}), manager)


# the gate


def test_gate_keeps_every_outcome_also_after_a_refusal(manager):
    targets = list("abc" * 20)
    decision = decide(
        evidence(_old(1000, 90, 10), _new(targets, targets, targets)),
        manager,
        champion=3,
        challenger=4,
    )
    assert [(o.rule, o.passed) for o in decision.outcomes] == [
        ("minimum-evidence", True), ("no-regression", False), ("no-harm", False), ("gain", True),
        ("worth", False), ("no-erosion", None), ("floor", None),
    ]  # fmt: skip
    assert (decision.promoted, decision.champion, decision.challenger) == (False, 3, 4)
    value = decision.to_json()
    assert value["outcomes"][1]["measured"] < value["outcomes"][1]["required"]


def test_gate_gives_the_same_verdict_for_the_same_seed(manager):
    old = evidence(_old(400, 20, 12))
    assert decide(old, manager) == decide(old, manager)


def test_gate_refuses_an_empty_rule_list(manager):
    with pytest.raises(ConfigError, match=r"gate\.rules is empty"):
        decide(evidence(_old(10, 0, 0), rules=()), manager)


def test_gate_refuses_unknown_rules_options_and_metrics(manager):
    with pytest.raises(PluginError, match="no gate rule 'no-regresion'"):
        decide(evidence(rules=("no-regresion",)), manager)
    with pytest.raises(PluginError, match="max_rate: Field required"):
        decide(evidence(rules=("negative-flips",)), manager)
    with pytest.raises(ConfigError, match=r"options for size, which gate\.rules does not name"):
        decide(evidence(rule_options={"size": {"max_bytes": 1}}), manager)
    with pytest.raises(ConfigError, match="no metric 'acuracy'") as caught:
        decide(evidence(_old(400, 0, 0), metric="acuracy"), manager)
    assert caught.value.hint == "Choose one of: accuracy, macro_f1, micro_f1."


def test_gate_takes_rules_of_plugins_and_minds_silent_ones():
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        answer: bool = True

    class Silent:
        name = "silent"
        summary = "says what it is told, or nothing"

        def __init__(self, options):
            self.options = options

        def judge(self, evidence):
            if not self.options.answer:
                return ()
            return (
                RuleOutcome(
                    rule="silent", passed=True, measured=1.0, required=1.0, message="Fine."
                ),
            )

    Silent.Options = Options

    class Plugin:
        @hookimpl
        def contlearn_register_gate_rules(self):
            return [Silent]

    manager = PluginManager(discover=False)
    manager.register(Plugin(), name="silent", distribution="test")
    assert decide(evidence(rules=("silent",)), manager).promoted is True
    with pytest.raises(EvaluationError, match="'silent' gave no outcome"):
        decide(evidence(rules=("silent",), rule_options={"silent": {"answer": False}}), manager)


def told(*outcomes):
    """Give a manager with a rule that answers each of these: passed, or "keeps"."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class Told:
        name = "told"
        summary = "says what it is told"

        def __init__(self, options):
            self.options = options

        def judge(self, evidence):
            return tuple(
                RuleOutcome(
                    rule=f"told-{n}",
                    passed=False if said == "keeps" else said,
                    keeps=said == "keeps",
                    measured=None,
                    required=None,
                    message=f"Told {said}.",
                )
                for n, said in enumerate(outcomes)
            )

    Told.Options = Options

    class Plugin:
        @hookimpl
        def contlearn_register_gate_rules(self):
            return [Told]

    manager = PluginManager(discover=False)
    manager.register(Plugin(), name="told", distribution="test")
    return manager


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ((True, None), "promoted"),
        ((None,), "refused"),
        ((True, "keeps"), "kept"),
        ((None, "keeps"), "kept"),
        (("keeps",), "kept"),
        (("keeps", False, True), "refused"),
        ((True, False), "refused"),
    ],
)
def test_what_is_not_worth_the_change_is_kept_unless_something_speaks_against_it(outcomes, verdict):
    decision = decide(evidence(rules=("told",)), told(*outcomes))
    assert (decision.verdict, decision.promoted) == (verdict, verdict == "promoted")
    assert [one.message for one in decision.refusals] == ["Told False."] * outcomes.count(False)
    assert [one.message for one in decision.not_worth] == ["Told keeps."] * outcomes.count("keeps")


def test_outcome_that_keeps_reads_not_worth_it():
    (outcome,) = decide(evidence(rules=("told",)), told("keeps")).outcomes
    assert (outcome.verdict, outcome.to_json()["keeps"]) == ("not worth it", True)
    (passed,) = decide(evidence(rules=("told",)), told(True)).outcomes
    assert (passed.verdict, "keeps" in passed.to_json()) == ("passed", False)


# further rules


def test_mcnemar_refuses_significant_losses(manager):
    assert _judge(manager, "mcnemar", _old(500, 30, 8)).passed is False
    assert _judge(manager, "mcnemar", _old(500, 12, 8)).passed is True
    assert sign_test(10, 2) == pytest.approx(79 / 4096)  # (66 + 12 + 1) / 2 ** 12
    assert sign_test(0, 0) == 1.0
    assert 0.0 < sign_test(900, 700) < 1e-6


def test_negative_flips_are_counted(manager):
    options = {"rule_options": {"negative-flips": {"max_rate": 0.05}}}
    outcome = _judge(manager, "negative-flips", _old(200, 12, 40), **options)
    assert (outcome.passed, outcome.measured) == (False, 0.06)
    assert _judge(manager, "negative-flips", _old(200, 8, 0), **options).passed is True


def test_label_floor_names_low_labels_but_not_those_that_were_low_before(manager):
    targets = list("abc" * 30)
    low_c = ["a" if t == "c" and i % 2 else t for i, t in enumerate(targets)]
    options = {"rule_options": {"label-floor": {"min_f1": 0.9}}}
    outcome = _judge(manager, "label-floor", pair(targets, low_c, targets), **options)
    assert outcome.passed is False
    assert "c 66.7 %" in outcome.message
    assert _judge(manager, "label-floor", pair(targets, low_c, low_c), **options).passed is True


def test_facts_of_the_export_are_judged_and_must_be_there(manager):
    options = {"rule_options": {"size": {"max_bytes": 50}}, "parity": {"size_bytes": 60}}
    assert _judge(manager, "size", **options).passed is False
    agreement = {"rule_options": {"label-agreement": {"min_agreement": 0.99}}}
    assert (
        _judge(manager, "label-agreement", **agreement, parity={"label_agreement": 0.995}).passed
        is True
    )
    with pytest.raises(EvaluationError, match="needs 'label_agreement', which was not measured"):
        _judge(manager, "label-agreement", **agreement)


# statistics


def test_paired_bootstrap_draws_rows_not_answers():
    """Equal answers differ by nothing, however hard the rows are."""
    counts = np.stack([np.random.default_rng(0).random(50) < 0.5, np.ones(50)], axis=1).astype(
        float
    )
    result = paired_difference(
        counts, counts, lambda s: s[..., 0] / s[..., 1], resamples=300, seed=0
    )
    assert (result.observed, result.lower_bound(0.95)) == (0.0, 0.0)


@pytest.mark.parametrize(("rows", "labels"), [(300, 4), (120, 40)])
def test_paired_bootstrap_is_the_plain_one_done_fast(rows, labels):
    """Macro F1: drawing row by row and counting anew gives the same distribution."""
    generator = np.random.default_rng(rows)
    names = tuple(f"label{i}" for i in range(labels))
    targets = generator.choice(names, size=rows).tolist()
    first, second = (answers_of(targets, right, generator, names) for right in (0.85, 0.8))
    case = evidence(
        pair(targets, second, first, labels=LabelSpace(names)),
        labels=LabelSpace(names),
        metric="macro_f1",
    )
    fast = compare(case, case.sets, resamples=4000)
    champion, challenger = (s.statistics for s in (case.sets[0].champion, case.sets[0].challenger))
    metric = metric_of(case)
    plain = []
    for _ in range(4000):
        drawn = generator.integers(rows, size=rows)
        plain.append(metric(challenger[drawn].sum(axis=0)) - metric(champion[drawn].sum(axis=0)))
    assert fast.observed == pytest.approx(
        float(metric(challenger.sum(axis=0)) - metric(champion.sum(axis=0)))
    )
    assert fast.draws.mean() == pytest.approx(np.mean(plain), abs=5 * np.std(plain) / 4000**0.5)
    assert fast.draws.std() == pytest.approx(np.std(plain), rel=0.08)
    for share in (0.05, 0.5, 0.95):
        assert np.quantile(fast.draws, share) == pytest.approx(
            np.quantile(plain, share), abs=0.12 * np.std(plain)
        )


def test_bound_is_wider_where_few_rows_differ():
    """As Student's t is: with 4 rows that differ by 2.35 spreads instead of 1.64."""
    few, many = (_old(400, lost, lost, right=0.5) for lost in (2, 60))
    for old, quantile in ((few, 2.353), (many, 1.658)):
        case = evidence(old)
        result = compare(case, case.sets, resamples=20_000)
        spread = result.draws.std()
        assert result.lower_bound(0.95) == pytest.approx(-quantile * spread, rel=0.12)
    assert compare(evidence(few), [few]).differing == 4


@pytest.mark.parametrize("draw", [bootstrap._draw_rows, bootstrap._draw_kinds])
def test_both_ways_of_drawing_have_the_moments_of_a_multinomial(draw):
    kind_of = np.repeat([0, 1, 2], [60, 30, 10])
    drawn = draw(np.random.default_rng(2), kind_of, np.bincount(kind_of), 20_000)
    assert (drawn.sum(axis=1) == 100).all()
    np.testing.assert_allclose(drawn.mean(axis=0), [60, 30, 10], atol=0.2)
    np.testing.assert_allclose(drawn.var(axis=0), [24, 21, 9], rtol=0.06)
    assert np.cov(drawn.T)[0, 1] == pytest.approx(-18, abs=1.2)


def test_paired_bootstrap_is_the_exact_one_on_a_tiny_case():
    """Two rows, one lost: the four draws give -1, -1/2, -1/2, 0."""
    champion = np.array([[1.0, 1.0], [1.0, 1.0]])
    challenger = np.array([[0.0, 1.0], [1.0, 1.0]])
    result = paired_difference(
        champion, challenger, lambda s: s[..., 0] / s[..., 1], resamples=40_000, seed=1
    )
    values, counts = np.unique(result.draws, return_counts=True)
    assert values.tolist() == [-1.0, -0.5, 0.0]
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)


def test_association_is_exact_on_a_tiny_case():
    """Two a, two b, all right: one of the six ways to deal the answers out is as good."""
    chance, units = association_chance(TASK, list("aabb"), list("aabb"), seed=0)
    assert units == 4
    assert chance == pytest.approx(1 / 6, abs=0.03)
    assert association_chance(TASK, list("ab"), list("aa"), seed=0) is None


class Weights(TaskBase):
    """A number for each text, of which hardly any comes twice."""

    name = "weights"

    def credit(self, answer, target):
        return max(0.0, 1.0 - abs(answer - target) / 10)


@pytest.mark.parametrize("rows", [40, 300, 900])
def test_numbers_that_hardly_repeat_are_told_from_chance_by_their_credit(rows):
    generator = np.random.default_rng(3)
    targets = generator.uniform(0, 10, rows).tolist()
    near = [
        target + error
        for target, error in zip(targets, generator.normal(0, 0.5, rows), strict=True)
    ]
    coarse = [float(round(target)) for target in targets]
    chance, units = association_chance(Weights(), near, targets, seed=0)
    assert (chance < 0.01, units) == (True, min(rows, 500))
    assert association_chance(Weights(), near, coarse, seed=0)[0] < 0.01
    shuffled = generator.permutation(near).tolist()
    assert association_chance(Weights(), shuffled, targets, seed=0)[0] > 0.05


def test_rows_needed_follow_margin_and_disagreement():
    assert rows_needed(0.03, 0.05, 0.95) == 344
    assert rows_needed(0.03, 0.10, 0.95) == 687
    assert rows_needed(0.03, 0.0, 0.95) == 344
    assert least_rows(0.03, 0.05, 0.95) == 151


def test_rows_kept_before_do_not_carry_a_shuffled_batch(manager):
    """Sound rows that were kept and as many shuffled ones are no guesses together."""
    sound = list("abc" * 30)
    shuffled = list("abc" * 20)
    random.Random(3).shuffle(shuffled)
    targets = sound + shuffled
    answers = sound + list("abc" * 20)
    rows = pair(targets, answers, answers, is_new=True)
    old = pair(sound, sound, sound)
    assert not decide(evidence(rows, old), manager).refusals
    apart = replace(rows, kept=tuple(range(len(sound))))
    decision = decide(evidence(apart, old), manager)
    (refusal,) = decision.refusals
    assert refusal.rule == "gain"
    assert "on the 60 of them that no update has kept, the answers are no better" in refusal.message


def test_rows_that_are_all_kept_are_judged_as_before(manager):
    targets = list("abc" * 30)
    rows = replace(pair(targets, targets, targets, is_new=True), kept=tuple(range(90)))
    decision = decide(evidence(rows, pair(targets, targets, targets)), manager)
    assert decision.verdict == "kept"
    assert not decision.refusals
