"""Corrections for the number of tests, and p-values that are combined."""

import pytest

from contlearn.statistics.several import cauchy, holm


def test_cauchy_counts_what_says_the_same_once_and_never_leaves_its_bounds():
    assert cauchy([0.01, 0.01, 0.01]) == pytest.approx(0.01)
    assert 10 * cauchy([0.001] + [0.5] * 9) == pytest.approx(0.1, rel=0.02)
    assert cauchy([1.0, 1.0, 1e-12]) < 1e-10
    assert 0 < cauchy([0.0]) < 1e-12
    assert cauchy([1.0, 1.0]) < 1
    # Detectors that see nothing at all do not silence one that is as sure as it can be.
    assert cauchy([1 / 2001, *[0.5] * 12, 1.0, 1.0]) < 0.01
    assert cauchy([]) == 1.0


def test_holm_adjusts_like_its_definition_and_keeps_the_order():
    assert holm([0.01]) == [0.01]
    assert holm([0.2, 0.001, 0.02]) == [0.2, 0.003, 0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
