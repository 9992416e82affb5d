from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.errors import EvaluationError
from contlearn.evaluation.metrics import (
    as_matrix,
    average_accuracy,
    backward_transfer,
    forgetting,
    forgetting_by_set,
)
from contlearn.types import Metric


def test_forgetting_takes_the_best_former_value_not_the_first():
    matrix = as_matrix([[0.5], [0.9, 0.8], [0.6, 0.8, 0.7]])
    assert forgetting(matrix) == pytest.approx((0.3 + 0.0) / 2)
    assert backward_transfer(matrix) == pytest.approx((0.1 + 0.0) / 2)
    assert average_accuracy(matrix) == pytest.approx(0.7)


def test_what_was_not_measured_is_left_out_of_every_mean():
    matrix = as_matrix([[0.9], [None, None], [0.6, None, 0.8]])
    assert average_accuracy(matrix) == pytest.approx(0.7)
    assert forgetting(matrix) == pytest.approx(0.3)
    assert backward_transfer(matrix) == pytest.approx(-0.3)
    assert forgetting_by_set(matrix.tolist()) == [pytest.approx(0.3), None]


def test_forgetting_of_a_measure_of_which_less_is_better_is_what_rose():
    distance = Metric(name="mean_distance", higher_is_better=False, unit="points")
    rows = [[0.5], [0.7, 0.9], [0.8, 0.6, 0.1]]
    assert forgetting_by_set(rows, distance) == pytest.approx([0.3, -0.3])
    assert forgetting(distance.oriented(as_matrix(rows))) == pytest.approx(0.0)


@pytest.mark.parametrize("measure", [forgetting, backward_transfer])
def test_measures_over_experiences_are_undefined_before_the_second(measure):
    with pytest.raises(EvaluationError, match="undefined before the second experience"):
        measure(as_matrix([[0.9]]))


def test_measures_are_undefined_when_nothing_was_measured():
    with pytest.raises(EvaluationError, match="nothing was measured"):
        average_accuracy(as_matrix([[0.9], [None, None]]))
    with pytest.raises(EvaluationError, match="no earlier experience was measured"):
        forgetting(as_matrix([[None], [None, 0.5]]))


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=n, max_size=n
        )
    )
)
def test_forgetting_is_never_less_than_minus_backward_transfer(rows):
    """The best former value is at least the value right after learning."""
    matrix = as_matrix([row[: t + 1] for t, row in enumerate(rows)])
    assert forgetting(matrix) >= -backward_transfer(matrix) - 1e-12
