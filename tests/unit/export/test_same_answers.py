"""When two graphs give the same answer, by how their head is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.export.parity import Reference, same_answers


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
    reference = Reference([], [expected], 0, words=False, loss=loss)
    assert same_answers(reference, expected, logits, tolerance=1e-3).tolist() == same
