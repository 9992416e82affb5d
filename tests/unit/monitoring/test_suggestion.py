from __future__ import annotations

import numpy as np

from contlearn.monitoring.suggestion import choose, ranks, strangeness, uncertainty


def test_the_least_certain_word_speaks_for_the_sentence():
    sure, unsure = [9.0, 0.0], [1.0, 1.0]
    assert uncertainty(np.array([sure, unsure, sure])) == 1.0
    assert uncertainty(np.array(sure)) < 0.001
    assert uncertainty(np.zeros((0, 2))) == 0.0


def test_a_flat_text_is_stranger_than_a_sharp_one():
    assert strangeness(np.array([0.0, 0.0])) > strangeness(np.array([9.0, 0.0]))


def test_ranks_lie_above_zero_and_equal_values_share_one():
    assert ranks([3.0, 3.0, 1.0, 2.0]).tolist() == [1.0, 1.0, 0.25, 0.5]


def test_copies_of_one_text_are_suggested_once():
    vectors = np.array([[0.0, 1.0]] * 5 + [[1.0, 0.0], [0.7, 0.7]])
    worth = np.array([1.0, 0.99, 0.98, 0.97, 0.96, 0.3, 0.2])
    assert choose(worth, vectors, 5) == [0, 5, 6]


def test_worth_decides_between_texts_that_are_equally_far():
    vectors = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert choose(np.array([1.0, 0.2, 0.4]), vectors, 2) == [0, 2]
    assert choose(np.zeros(0), np.zeros((0, 2)), 3) == []
