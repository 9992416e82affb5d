"""When two graphs give the same answer, by how their head is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from contlearn.export.parity import Reference, compare, same_answers
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
    assert same_answers(reference, expected, logits, allowed=np.array([1e-3])).tolist() == same


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


class Shifted:
    """Answers the reference's scores with a difference."""

    def __init__(self, reference, by):
        self.reference, self.by = reference, by

    def run(self, names, feed):
        rows = [len(e.input_ids) for e in self.reference.encodings]
        lengths = feed["attention_mask"].sum(axis=1)
        return [np.concatenate([self.reference.logits[rows.index(n)] + self.by for n in lengths])]


def far_apart(factor, loss="softmax"):
    """Two rows of scores of +-factor."""
    encodings = [Encoding(input_ids=(1, 2)), Encoding(input_ids=(1, 2, 3))]
    logits = [np.array([[factor, -factor]]), np.array([[-factor, factor]])]
    return Reference(encodings, logits, 7, has_places=False, loss=loss)


@pytest.mark.parametrize(
    ("factor", "by", "spread", "relative"),
    [
        (200.0, 0.00244, 200.0, 0.0000122),  # rounding of scores that are that large
        (200.0, 0.4, 200.0, 0.002),  # no rounding any more
        (0.1, 0.00244, 1.0, 0.00244),  # small scores are judged as they are
    ],
)
def test_a_difference_is_told_by_the_spread_of_the_scores(factor, by, spread, relative):
    reference = far_apart(factor)
    found = compare(Shifted(reference, by), reference, tolerance=1e-3)
    assert found.max_abs_difference == pytest.approx(by, rel=1e-3)
    assert found.relative_difference == pytest.approx(relative, rel=1e-3)
    assert found.spread == pytest.approx(spread)
    assert found.agreement == 1.0


def test_numbers_have_a_spread_an_output():
    """One of them in thousands does not excuse the other, which lies between 0 and 1."""
    reference = far_apart(1.0, loss="squared")
    reference.logits = [np.array([[1000.0, 0.2]]), np.array([[3000.0, 0.4]])]
    assert reference.spread().tolist() == [1000.0, 1.0]
    found = compare(Shifted(reference, np.array([0.5, 0.0])), reference, tolerance=1e-3)
    assert found.relative_difference == pytest.approx(0.0005)
    found = compare(Shifted(reference, np.array([0.0, 0.5])), reference, tolerance=1e-3)
    assert found.relative_difference == pytest.approx(0.5)


def test_a_reference_without_rows_has_the_spread_of_one():
    reference = Reference([], [], 0, has_places=False)
    assert reference.spread().tolist() == [1.0]
    assert compare(None, reference, tolerance=1e-3).agreement == 1.0
