from __future__ import annotations

import numpy as np
import pytest

from contlearn.monitoring.accuracy import (
    Calibration,
    estimate_accuracy,
    measure_accuracy,
    wilson,
)


def rows(generator, count, a, b, *, curve=lambda c: c):
    """Confidences from a beta distribution, right with a chance that follows from them."""
    confidence = generator.beta(a, b, count)
    return confidence, (generator.random(count) < curve(confidence)).astype(float)


@pytest.fixture
def generator():
    return np.random.default_rng(3)


@pytest.mark.parametrize("curve", [lambda c: c, lambda c: 0.3 + 0.5 * c], ids=["honest", "vain"])
def test_estimate_follows_harder_texts_and_its_interval_covers(generator, curve):
    covered = 0
    errors = []
    for _ in range(60):
        calibration = Calibration(*rows(generator, 800, 6, 2, curve=curve))
        confidence, right = rows(generator, 300, 3, 3, curve=curve)  # harder than held out
        estimate = estimate_accuracy(confidence, calibration)
        covered += estimate.low <= right.mean() <= estimate.high
        errors.append(estimate.value - right.mean())
    # 95 % of 60 are 57; a deviation of four standard errors would be 50.
    assert covered >= 50
    assert abs(np.mean(errors)) < 0.05


def test_estimate_needs_held_out_rows_and_opens_its_interval_when_drift_was_found(generator):
    confidence, _ = rows(generator, 200, 6, 2)
    few = Calibration(*rows(generator, 99, 6, 2))
    assert estimate_accuracy(confidence, few) is None
    enough = Calibration(*rows(generator, 400, 6, 2))
    assert estimate_accuracy(np.full(10, np.nan), enough) is None
    calm, alarmed = (estimate_accuracy(confidence, enough, detected=d) for d in (False, True))
    assert alarmed.value == calm.value
    assert alarmed.high == calm.high
    assert alarmed.low == pytest.approx(calm.low - (1 - calm.value))
    assert alarmed.widened
    assert not calm.widened


def test_texts_flagged_beyond_the_usual_share_count_half(generator):
    calibration = Calibration(*rows(generator, 800, 6, 2))
    confidence, _ = rows(generator, 300, 6, 2)
    plain = estimate_accuracy(confidence, calibration)
    usual = np.arange(300) < 15
    assert estimate_accuracy(confidence, calibration, flagged=usual, flag_rate=0.05) == plain
    many = np.arange(300) < 75  # 60 of them beyond the usual 15
    found = estimate_accuracy(confidence, calibration, flagged=many, flag_rate=0.05)
    lost = 2 * (plain.value - found.value)
    assert lost == pytest.approx(60 / 300 * confidence[:75].mean(), rel=0.1)
    assert found.high == plain.high
    assert found.low == pytest.approx(plain.low - 2 * lost)
    # A text without a confidence is left out together with its flag.
    gap = confidence.copy()
    gap[:60] = np.nan
    assert estimate_accuracy(gap, calibration, flagged=many, flag_rate=0.0625).value == (
        pytest.approx(estimate_accuracy(gap, calibration).value)
    )


def test_unknown_texts_are_estimated_better_than_by_confidence_alone(generator):
    """A fifth of the texts is out of scope: always wrong, flagged in six of ten cases."""
    calibration = Calibration(*rows(generator, 800, 6, 2))
    confidence, right = rows(generator, 300, 6, 2)
    strange = np.arange(300) % 5 == 0
    right[strange] = 0.0
    flagged = np.where(strange, generator.random(300) < 0.6, generator.random(300) < 0.05)
    plain = estimate_accuracy(confidence, calibration)
    found = estimate_accuracy(confidence, calibration, flagged=flagged, flag_rate=0.05)
    assert abs(found.value - right.mean()) < 0.8 * abs(plain.value - right.mean())
    assert found.low <= right.mean() <= found.high
    assert not plain.low <= right.mean()


def test_estimate_is_the_same_for_the_same_rows(generator):
    confidence, _ = rows(generator, 200, 6, 2)
    calibration = Calibration(*rows(generator, 400, 6, 2))
    assert estimate_accuracy(confidence, calibration) == estimate_accuracy(confidence, calibration)


def test_confidences_of_exactly_one_are_taken():
    calibration = Calibration(np.ones(200), np.ones(200))
    estimate = estimate_accuracy(np.ones(50), calibration)
    assert 0.97 < estimate.low <= estimate.value <= estimate.high <= 1.0


def test_wilson_agrees_with_scipy():
    from scipy.stats import binomtest

    for right, count in ((0, 20), (13, 20), (20, 20), (95, 100)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
    measured = measure_accuracy([True, True, False, True])
    assert (measured.value, measured.records) == (0.75, 4)
    assert measure_accuracy([]) is None
