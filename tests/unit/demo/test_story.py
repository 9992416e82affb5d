"""What the demo delivers; the story itself is told by `make demo`."""

from contlearn.demo.story import (
    DELIVERIES,
    PLAIN,
    QUIZ,
    SAME,
    delivery,
    quiz_rows,
)

KINDS = {kind: [f"{kind} {i}" for i in range(600)] for kind in ("tweet", "product", "movie")}


def texts(rows):
    return {row["text"] for row in rows}


def test_nobody_learns_from_the_quiz_and_no_delivery_repeats_another():
    quiz, first = quiz_rows(KINDS), delivery(KINDS, ("tweet", "product"), 240)
    same = delivery(KINDS, ("tweet", "product"), SAME, start=QUIZ + 240)
    assert len(quiz) == 3 * QUIZ
    assert (len(first), len(same)) == (480, 2 * SAME)
    assert not texts(quiz) & texts(first)
    assert not texts(first) & texts(same)
    assert {row["label"] for row in first} == {"tweet", "product"}


def test_there_is_a_figure_of_plain_fine_tuning_for_each_delivery():
    assert len(PLAIN) == len(DELIVERIES)
