"""Calibration of confidences, and what a softmax makes of scores."""

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import logsumexp
from scipy.special import softmax as scipy_softmax

from contlearn.statistics.calibration import (
    adaptive_calibration_error,
    fit_temperature,
    mean_gap,
    reliability_bins,
)
from contlearn.statistics.scores import free_energy, log_softmax, softmax


def test_calibration_error_is_the_gap_and_none_for_few_rows():
    generator = np.random.default_rng(3)
    confidence = np.linspace(0.5, 0.99, 400)
    right = generator.random(400) < confidence - 0.3
    assert adaptive_calibration_error(confidence, right.tolist()) == pytest.approx(0.3, abs=0.06)
    assert adaptive_calibration_error(confidence[:99], right[:99].tolist()) is None
    assert mean_gap(reliability_bins(confidence, right.astype(float))) == pytest.approx(
        0.3, abs=0.06
    )


def test_scores_equal_those_of_scipy_also_for_large_ones():
    logits = np.random.default_rng(5).normal(size=(7, 4)) * 900
    assert softmax(logits, 2.0) == pytest.approx(scipy_softmax(logits / 2.0, axis=-1))
    assert log_softmax(logits, 2.0) == pytest.approx(scipy_log_softmax(logits / 2.0, axis=-1))
    assert free_energy(logits, 2.0) == pytest.approx(2.0 * logsumexp(logits / 2.0, axis=-1))


def test_temperature_that_made_the_labels_is_found_and_few_rows_lean_to_the_centre():
    generator = np.random.default_rng(11)
    logits = generator.normal(size=(4000, 5)) * 4
    chances = softmax(logits, 2.0)
    targets = np.array([generator.choice(5, p=row) for row in chances])
    assert fit_temperature(logits, targets) == pytest.approx(2.0, rel=0.08)
    assert fit_temperature(logits[:0], targets[:0], centre=1.7) == 1.7
