"""Exact tests and intervals, held against their definitions."""

import pytest

from contlearn.statistics.exact import sign_test
from contlearn.statistics.intervals import wilson, wilson_lower


def test_sign_test_is_exact_also_for_many_rows():
    assert sign_test(5, 0) == 0.5**5
    assert sign_test(0, 7) == 1.0
    assert sign_test(8, 2) == pytest.approx(56 / 1024)
    assert 0.0 < sign_test(1500, 1100) < 1e-10


def test_lower_end_of_an_interval_is_that_of_twice_the_doubt():
    assert wilson_lower(0, 100, confidence=0.99) == 0.0
    assert 0.02 < wilson_lower(10, 100, confidence=0.999) < 0.1
    assert wilson_lower(10, 100, confidence=0.975) == wilson(10, 100)[0]
    assert wilson_lower(0, 0, confidence=0.99) == 0.0
