"""The task by itself: the kit's checks, and what is its own."""

from __future__ import annotations

import pytest
from contlearn_ratings import Ratings, Scale
from pydantic import ValidationError

from contlearn.interfaces import FieldNames, RowProblem
from contlearn.testing import check_task
from contlearn.types import Calibration, LabelSpace

TASK = Ratings()
SPACE = TASK.space_from_labels(())
ROWS = [{"text": f"room {number} was fine", "rating": 1 + number % 5} for number in range(10)]


def test_task_keeps_to_the_kit():
    assert check_task(Ratings, ROWS) == []
    low = [{**row, "rating": row["rating"] - 3} for row in ROWS]
    assert check_task(Ratings, low, options={"lowest": -2, "highest": 2}) == []


@pytest.mark.parametrize("rating", [0, 6, 2.5, "good", True, [3]])
def test_what_is_no_rating_of_the_scale_is_refused(rating):
    with pytest.raises(RowProblem, match="no whole number from 1 to 5"):
        TASK.read_fields({"text": "fine", "rating": rating}, FieldNames())


def test_rating_in_a_file_without_types_is_read():
    assert TASK.read_fields({"text": "fine", "rating": "4"}, FieldNames())[1] == 4


def test_scale_needs_a_step():
    with pytest.raises(ValidationError, match="above lowest"):
        Scale(lowest=3, highest=3)


@pytest.mark.parametrize(
    ("logits", "rating"),
    [([-3, -3, -3, -3], 1), ([3, 2, -1, -2], 3), ([3, 3, 3, 3], 5), ([3, -2, 3, -3], 2)],
)
def test_steps_that_are_reached_make_the_rating(logits, rating):
    answer = TASK.decode([{"logits": logits}], (), {}, SPACE, Calibration())
    assert (answer.target, answer.value["rating"], answer.labels) == (
        rating,
        rating,
        (str(rating),),
    )
    assert 0 < answer.confidence <= 1
    assert abs(answer.value["expected"] - rating) < 1


def test_measures_are_those_of_an_example_made_by_hand():
    answers, targets = [1, 3, 5, 2], [1, 5, 4, 2]
    sums = TASK.statistics(answers, targets, LabelSpace()).sum(axis=0)
    found = {name: float(value) for name, value in TASK.summarise(sums, LabelSpace()).items()}
    assert found == {"mean_distance": 0.75, "accuracy": 0.5, "within_one": 0.75}
    assert TASK.baseline([1, 5, 2, 2]) == (2, 2, 2, 2)
    assert [TASK.credit(a, t) for a, t in zip(answers, targets, strict=True)] == [1, 0.5, 0.75, 1]
