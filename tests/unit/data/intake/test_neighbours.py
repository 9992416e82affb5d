from __future__ import annotations

import random

import numpy as np
import pytest

from contlearn.data.intake.neighbours import NearIndex, Reserve
from contlearn.workspace import FileOperations

WORDS = [
    "parcel",
    "late",
    "invoice",
    "refund",
    "courier",
    "wrong",
    "size",
    "again",
    "please",
    "today",
    "where",
    "charged",
    "twice",
]


def texts(number, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=14)) + f" {rng.random()}" for _ in range(number)]


def index_of(items, similarity=0.8):
    index = NearIndex(similarity)
    for text in items:
        index.add(text)
    return index


def rows(index):
    return np.arange(len(index))


def test_texts_that_differ_in_case_and_signs_are_near():
    index = index_of(
        ["Where is my parcel?", "where is my parcel", "WHERE is: my PARCEL!", "a song"]
    )
    first, second, _ = index.pairs(rows(index))
    assert set(zip(first.tolist(), second.tolist(), strict=True)) >= {(0, 1), (0, 2)}
    assert 3 not in {*first.tolist(), *second.tolist()}


def test_texts_with_a_changed_end_are_found_and_others_are_not():
    base = texts(300, seed=1)
    index = index_of([*base, *(text + "!x" for text in base)])
    first, second, _ = index.pairs(rows(index))
    right = (second - first) == 300
    # Recall of MinHash at a similarity of about 0.96, and no pair of different texts.
    assert right.sum() > 290
    assert right.all()


def test_rows_that_do_not_count_are_in_no_pair():
    index = index_of(["the same words here", "the same words here", "the same words here!"])
    first, second, _ = index.pairs(np.array([0, 2]))
    assert (first.tolist(), second.tolist()) == ([0], [2])


def test_reserve_is_found_again_and_bounded(tmp_path):
    path = tmp_path / "reserve.bin"
    held_out = texts(50, seed=2)
    index = index_of(held_out)
    Reserve(path, 30).load().add(*index.signatures(rows(index)), FileOperations())
    kept = Reserve(path, 30).load()
    assert len(kept) == 30
    again = index_of([text.upper() for text in held_out])
    *_, near = again.pairs(rows(again), kept)
    # The oldest twenty were let go.
    assert near.tolist() == list(range(20, 50))


def test_damaged_reserve_is_an_empty_one(tmp_path):
    path = tmp_path / "reserve.bin"
    path.write_bytes(b"no signatures")
    assert len(Reserve(path, 10).load()) == 0


@pytest.mark.slow
def test_signatures_of_a_long_file_lie_on_disk_and_say_the_same(tmp_path):
    # More than what stays in memory, of few different texts, so that the test is quick.
    number = 40_000
    index = NearIndex(0.8, tmp_path)
    some = texts(200, seed=3)
    for row in range(number):
        index.add(some[row % 200])
    assert len(index) == number
    last, few = np.arange(number - 200, number), index_of(some)
    for long, short in zip(index.signatures(last), few.signatures(rows(few)), strict=True):
        assert np.array_equal(long, short)
    first, second, _ = index.pairs(np.array([0, 1, 200, number - 199]))
    assert (first.tolist(), second.tolist()) == ([0, 1], [200, number - 199])
    first, second, _ = index.pairs(rows(index))
    assert np.array_equal(np.unique(second), np.arange(200, number))
    assert (first[second >= 200] < 200).all()
    assert list(tmp_path.iterdir()) == []
