"""When two graphs give the same answer, by how their head is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.export.parity import Reference, same_answers
from contlearn.types import Encoding


@pytest.mark.parametrize(
    ("loss", "expected", "logits", "same"),
    [
        ("softmax", [[2.0, 1.0]], [[1.5, 1.4]], [True]),
        ("softmax", [[2.0, 1.0]], [[1.4, 1.5]], [False]),
        ("softmax", [[2.0, 2.0005]], [[2.1, 2.0]], [True]),
        ("sigmoid", [[1.0, -1.0]], [[0.2, -3.0]], [True]),
        ("sigmoid", [[1.0, -1.0]], [[1.0, 0.1]], [False]),
        ("ordinal", [[1.0, 0.0005]], [[1.0, -0.0005]], [True]),
        ("ordinal", [[1.0, 0.5]], [[1.0, -0.5]], [False]),
        ("squared", [[1.0], [3.0]], [[1.009], [3.1]], [True, False]),
    ],
)
def test_answers_are_compared_by_what_the_head_means(loss, expected, logits, same):
    expected, logits = np.array(expected, np.float32), np.array(logits, np.float32)
    reference = Reference([], [expected], 0, has_places=False, loss=loss)
    assert same_answers(reference, expected, logits, tolerance=1e-3).tolist() == same


@pytest.mark.parametrize("loss", ["ordinal", "sigmoid", "squared"])
def test_fewer_rows_and_a_graphs_own_answers_are_compared_as_the_whole_is(loss):
    class Session:
        def run(self, names, feed):
            return [np.array([[3.0]], np.float32)]

    encodings = [Encoding(input_ids=(1, 2)), Encoding(input_ids=(1, 2, 3))]
    logits = [np.array([[1.0]], np.float32), np.array([[2.0]], np.float32)]
    reference = Reference(encodings, logits, 7, has_places=False, loss=loss)
    for one, answers in (
        (reference.some(1), [1.0]),
        (reference.answered_by(Session()), [3.0, 3.0]),
        (reference.with_more(reference), [1.0, 2.0, 1.0, 2.0]),
    ):
        assert (one.loss, one.pad_id, one.has_places) == (loss, 7, False)
        assert [float(row.item()) for row in one.logits] == answers
        assert len(one.encodings) == len(answers)
