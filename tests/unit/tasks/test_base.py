"""What every task has unless it says otherwise."""

from __future__ import annotations

import pytest

from contlearn.interfaces import Field, FieldNames, RowProblem
from contlearn.tasks.base import TaskBase


class Pair(TaskBase):
    """Two inputs: a text, and words."""

    fields = (
        Field("text", "text"),
        Field("hints", "words"),
        Field("label", "label", is_target=True),
    )


def test_words_are_read_in_the_order_that_they_have():
    row = {"text": "to Rome", "hints": ["a", "b c"]}
    assert Pair().read_inputs(row, FieldNames()) == {"text": "to Rome", "hints": ("a", "b c")}


@pytest.mark.parametrize(
    ("hints", "reason", "message"),
    [
        ([], "empty-text", "The field 'hints' is empty."),
        ("a b", "wrong-type", "The field 'hints' is a text, not a list."),
        ([1], "wrong-type", "The field 'hints' is a number, not text."),
        (["a", " "], "empty-text", "The field 'hints' is empty."),
        (None, "missing-field", "The field 'hints' is null. The row has: 'text', 'hints'."),
    ],
)
def test_wrong_words_are_refused_with_what_is_wrong(hints, reason, message):
    with pytest.raises(RowProblem) as caught:
        Pair().read_inputs({"text": "to Rome", "hints": hints}, FieldNames())
    assert (caught.value.reason, caught.value.message) == (reason, message)
