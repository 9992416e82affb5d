"""Small losses that add up: the rule no-erosion, and what the best proven version answers."""

import random
from dataclasses import replace

import pytest

from contlearn.errors import RegistryError
from contlearn.evaluation.anchors import BestAnswers, known_best
from contlearn.evaluation.erosion import NoErosion, against_anchor, judge_anchor, level_of
from contlearn.evaluation.gate import decide
from contlearn.papers.scores import SCORES, Answers, ScoredSet, Scores
from contlearn.plugins.manager import PluginManager
from contlearn.types import Anchor
from contlearn.workspace import write_json_atomic
from tests.unit.evaluation.made import (
    LABELS,
    TASK,
    Scripted,
    answers_of,
    evidence,
    held_out,
    pair,
    paired_answers,
)

ANCHOR = Anchor(version=3)


def judged(*pairs, anchor=ANCHOR, **config):
    (outcome,) = NoErosion().judge(evidence(*pairs, anchor=anchor, **config))
    return outcome


def eroded(rows=2000, *, lost, won=0):
    """Give a set on which the challenger is as the champion, and both are below the anchor."""
    targets, champion, anchor = paired_answers(rows, lost=lost, won=won)
    return pair(targets, champion, champion, anchor=anchor)


def test_levels_of_all_looks_together_are_what_the_gate_allows():
    total = sum(level_of(look, 5000, 0.95) for look in range(1, 200_000))
    assert 0.03 < total < 0.05
    assert level_of(1, 300, 0.95) == pytest.approx(0.3 * level_of(1, 1000, 0.95))


def test_first_version_and_one_without_old_rows_are_not_judged():
    targets = ["a", "b", "c"] * 20
    assert judged(pair(targets, targets, is_new=True), anchor=None).passed is None
    assert judged(pair(targets, targets, targets, is_new=True)).passed is None


def test_equal_version_passes():
    outcome = judged(eroded(lost=20, won=20))
    assert outcome.passed
    assert outcome.measured > -0.03
    assert "the best proven version 3 85.0 %" in outcome.message


def test_what_lost_little_each_time_is_kept_back_in_the_end():
    """The challenger equals its champion, and both are three points below the best."""
    outcome = judged(eroded(lost=80, won=20))
    assert outcome.is_not_worth
    assert not outcome.refuses
    assert outcome.measured < -0.03 == outcome.required
    assert "look 1 of this lineage" in outcome.message
    assert "With these rows a version as good as that one shows it" in outcome.message
    few = judged(eroded(300, lost=10, won=10))
    assert few.is_not_worth
    assert "With 1,085 such rows a version as good" in few.message


def test_later_look_asks_for_more():
    rows = eroded(lost=50, won=30)
    assert judged(rows).passed
    assert judged(rows, anchor=Anchor(version=3, look=400)).is_not_worth


def test_rows_without_another_anchor_are_compared_with_the_champion():
    targets, challenger, champion = paired_answers(2000, lost=80, won=20)
    assert judged(pair(targets, challenger, champion)).is_not_worth


def test_few_rows_are_judged_only_where_few_rows_refuse():
    few = eroded(200, lost=5, won=5)
    assert judged(few).passed is None
    assert "gate.min_evidence_rows = 300" in judged(few).message
    assert judged(few, short_evidence="refuse").is_not_worth


def test_other_metrics_are_bounded_too():
    generator = random.Random(4)
    targets = ["a", "b", "c"] * 700
    anchor = answers_of(targets, 0.9, generator)
    worse = [a if generator.random() < 0.93 else "c" for a in anchor]
    assert judged(pair(targets, anchor, worse, anchor=anchor), metric="macro_f1").passed
    assert judged(pair(targets, worse, worse, anchor=anchor), metric="macro_f1").is_not_worth


def test_gain_beyond_doubt_is_proven_and_a_lucky_one_is_not():
    for won, proven in ((60, True), (25, False)):
        targets, challenger, champion = paired_answers(2000, lost=10, won=won)
        seen = against_anchor(evidence(pair(targets, challenger, champion), anchor=ANCHOR))
        assert seen.observed == pytest.approx((won - 10) / 2000)
        assert seen.proves_gain is proven


@pytest.mark.parametrize(
    ("rules", "counts"),
    [
        (("no-regression", "no-erosion"), True),  # nothing else stands in its way
        (("no-regression", "minimum-evidence"), False),  # nobody asks
        (("no-regression", "no-erosion", "worth"), False),  # stopped anyway: equal is not worth it
    ],
)
def test_look_counts_where_only_this_rule_could_stop_the_challenger(rules, counts):
    given = evidence(eroded(lost=20, won=20), anchor=Anchor(version=3, look=7, reset=2))
    given = replace(given, config=given.config.model_copy(update={"rules": rules}))
    value = judge_anchor(given, decide(given, PluginManager(discover=False)))
    assert value["counts"] is counts
    assert (value["version"], value["look"], value["reset"]) == (3, 7, 2)


def scores_of(*sets):
    return Scores(labels=LABELS.names, sets=sets)


def scored(index, ids, *, challenger, champion=None, anchor=None, is_new=False):
    def answers(names):
        return None if names is None else Answers(tuple(names))

    return ScoredSet(
        experience=f"c{index}",
        index=index,
        is_new=is_new,
        content_hash="",
        record_ids=tuple(ids),
        targets=("a",) * len(ids),
        challenger=answers(challenger),
        champion=answers(champion),
        anchor=answers(anchor),
    )


def test_best_answers_are_carried_from_version_to_version(tmp_path):
    """What was new to the champion it was the first to learn; other rows keep their best."""
    papers = scores_of(
        scored(0, ["r1"], challenger="b", champion="c", anchor="a"),
        scored(1, ["r2"], challenger="b", champion="c"),
        scored(2, ["r3"], challenger="b", champion="c", is_new=True),
    )
    write_json_atomic(tmp_path / SCORES, papers.to_json())
    assert known_best(tmp_path) == {"r1": "a", "r2": "c", "r3": "b"}
    assert known_best(tmp_path / "nowhere") == {}


def test_rows_that_were_never_asked_are_asked_where_they_were_learnt():
    rows = held_out(["a", "a", "a"])
    first, second, third = (record.record_id for record in rows.records)
    predictor = Scripted({rows.records[1].inputs["text"]: "b"}, default="c")
    best = BestAnswers({first: "a"}, frozenset({"c0"}), lambda: predictor)
    champion = Answers(("x", "x", "x"))
    assert best.on(rows, champion, TASK).targets == ("a", "b", "c")
    assert predictor.asked == 2
    assert best.unknown == 0

    later = BestAnswers({first: "a", third: "b"}, frozenset(), lambda: predictor)
    assert later.on(rows, champion, TASK).targets == ("a", "x", "b")
    assert later.unknown == 1, f"nobody knows {second}"


def test_best_version_that_cannot_be_loaded_is_said_to_be_unknown():
    def load():
        raise RegistryError("gone", where="here")

    best = BestAnswers({}, frozenset({"c0"}), load)
    assert best.on(held_out(["a", "b"]), Answers(("x", "y")), TASK).targets == ("x", "y")
    assert best.unknown == 2
