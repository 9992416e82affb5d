from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.statistics.shares import compare_shares, psi, psi_quantile

COUNTS = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 500), min_size=1).filter(
    lambda counts: sum(counts.values()) > 0
)


def test_psi_matches_its_definition_on_a_hand_worked_case():
    # With half a record added to each: 10.5/21, 10.5/21 against 15.5/21, 5.5/21.
    p, q = (0.5, 0.5), (15.5 / 21, 5.5 / 21)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi({"x": 10, "y": 10}, {"x": 15, "y": 5}) == pytest.approx(expected, abs=1e-12)


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_never_negative(first, second):
    assert psi(first, second) >= 0
    assert psi(first, second) == pytest.approx(psi(second, first))


@given(COUNTS)
def test_psi_of_equal_counts_is_zero(counts):
    assert psi(counts, counts) == pytest.approx(0, abs=1e-12)


def test_psi_needs_records_on_both_sides():
    with pytest.raises(ValueError, match="both sides"):
        psi({"a": 0}, {"a": 3})


def test_a_label_that_is_new_is_found_and_named_first():
    drift = compare_shares({"a": 500, "b": 500}, {"a": 200, "b": 200, "new": 100}, limit=0.1)
    assert drift.detected
    assert drift.moved[0] == ("new", 0.0, 0.2)
    assert (drift.window_records, drift.reference_records) == (500, 1000)


def test_a_change_must_be_larger_than_the_limit_as_well_as_real():
    small = compare_shares({"a": 50_000, "b": 50_000}, {"a": 560, "b": 440}, limit=0.2)
    assert small.score > psi_quantile({"a": 50_000, "b": 50_000}, 1_000)
    assert not small.detected
    assert small.threshold == 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "window"), [(2, 200), (7, 500), (150, 500)])
def test_false_alarms_without_drift_stay_at_the_stated_rate(labels, window):
    generator = random.Random(5)
    names = [f"l{number}" for number in range(labels)]
    weights = [generator.random() + 0.2 for _ in names]

    def draw(number):
        counts = dict.fromkeys(names, 0)
        for name in generator.choices(names, weights, k=number):
            counts[name] += 1
        return counts

    alarms = rounds = 0
    for _ in range(3):
        reference = draw(5_000)
        chance = psi_quantile(reference, window)
        for _ in range(200):
            rounds += 1
            alarms += compare_shares(reference, draw(window), chance=chance).detected
    # 1 % nominal; five binomial standard errors of 600 rounds on top.
    assert alarms / rounds <= 0.01 + 5 * math.sqrt(0.01 * 0.99 / rounds)


def test_a_fixed_limit_alone_would_alarm_always_with_many_labels():
    reference = dict.fromkeys((f"l{number}" for number in range(150)), 40)
    assert psi_quantile(reference, 500, quantile=0.5) > 0.2


def test_the_quantile_can_be_repeated():
    reference = {"a": 30, "b": 70}
    assert psi_quantile(reference, 100) == psi_quantile(reference, 100)
