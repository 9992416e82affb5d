from __future__ import annotations

import json

import pytest

from contlearn.interfaces import FieldNames
from contlearn.serving.http.feedback import FeedbackDesk, RecentRequests
from contlearn.serving.http.problems import RequestProblem
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification


@pytest.fixture
def desk(tmp_path):
    return FeedbackDesk(tmp_path, TextClassification(), FieldNames(text="message", label="topic"))


def test_recent_requests_are_bounded_in_number_and_size():
    recent = RecentRequests(requests=3, characters=100)
    for number in range(5):
        recent.keep(f"r{number}", {0: {"text": "x" * 10}}, 10)
    assert recent.find("r1", 0) is None
    assert recent.find("r2", 0) == {"text": "x" * 10}
    assert recent.find("r2", 1) is None
    recent.keep("big", {0: {"text": "y" * 95}}, 95)
    assert recent.find("r4", 0) is None
    recent.keep("huge", {0: {"text": "y" * 500}}, 500)
    assert recent.find("huge", 0) is None


def test_a_label_becomes_a_row_of_the_inbox_with_the_users_field_names(desk, tmp_path):
    desk.recent.keep("r1", {0: {"text": "first"}, 1: {"text": "second"}}, 11)
    row = desk.row({"request_id": "r1", "index": 1, "label": "billing"}, "labels[0]")
    assert row == {"message": "second", "topic": "billing"}
    assert desk.accept([row])
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == row
    assert path.name.startswith("feedback-")


def test_the_same_labels_twice_are_one_file(desk, tmp_path):
    rows = [{"message": "a", "topic": "x"}, {"message": "b", "topic": "y"}]
    assert desk.accept(rows)
    assert not desk.accept(rows[::-1])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_request_that_is_forgotten_needs_its_text(desk):
    with pytest.raises(RequestProblem) as caught:
        desk.row({"request_id": "gone", "label": "x"}, "labels[0]")
    assert caught.value.status == 404
    assert desk.row({"request_id": "gone", "label": "x", "text": "t"}, "") == {
        "message": "t",
        "topic": "x",
    }


@pytest.mark.parametrize(
    "item",
    [
        5,
        {},
        {"request_id": "r1"},
        {"request_id": 1, "label": "x"},
        {"request_id": "r1", "index": "0", "label": "x"},
    ],
)
def test_labels_that_are_wrong_are_refused(desk, item):
    with pytest.raises(RequestProblem) as caught:
        desk.row(item, "labels[3]")
    assert (caught.value.status, caught.value.where) == (400, "labels[3]")


def test_a_label_is_checked_as_the_inbox_checks_it(desk):
    desk.recent.keep("r1", {0: {"text": "words"}}, 5)
    with pytest.raises(RequestProblem):
        desk.row({"request_id": "r1", "label": ""}, "labels[0]")


def test_tags_go_with_the_tokens_they_were_predicted_for(tmp_path):
    desk = FeedbackDesk(tmp_path, TokenClassification(), FieldNames())
    desk.recent.keep("r1", {0: {"tokens": ("to", "Rome")}}, 7)
    row = desk.row({"request_id": "r1", "label": ["O", "B-city"]}, "")
    assert row == {"tokens": ["to", "Rome"], "tags": ["O", "B-city"]}
    with pytest.raises(RequestProblem, match="2 words but 1 tags"):
        desk.row({"request_id": "r1", "label": ["O"]}, "")


def test_entities_are_taken_as_the_server_answers_them(tmp_path):
    desk = FeedbackDesk(tmp_path, TokenClassification(), FieldNames())
    desk.recent.keep("r1", {0: {"text": "to New York, now"}}, 16)
    tags = ["O", "B-city", "I-city", "O", "O"]
    spans = [{"start": 3, "end": 11, "type": "city", "score": 0.4}]
    items = [{"request_id": "r1", "label": label} for label in (spans, tags, [])]
    same, also, none = desk.check(items, ["", "", ""]).answers
    assert same.row == {"tokens": ["to", "New", "York", ",", "now"], "tags": tags}
    assert also.row == same.row
    assert also.answer == same.answer
    assert none.row["tags"] == ["O"] * 5
    assert none.answer != same.answer


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([{"start": 4, "end": 11, "type": "city"}], "does not begin and end with a word"),
        ([{"start": 3, "end": 11}], "not an object with start, end and type"),
        ([{"start": 3, "end": 11, "type": "a"}, {"start": 7, "end": 11, "type": "b"}], "overlaps"),
        ([5], "not an object"),
        ("city", "not a list"),
    ],
)
def test_entities_that_are_wrong_are_said(tmp_path, label, words):
    desk = FeedbackDesk(tmp_path, TokenClassification(), FieldNames())
    desk.recent.keep("r1", {0: {"text": "to New York, now"}}, 16)
    with pytest.raises(RequestProblem, match=words) as caught:
        desk.row({"request_id": "r1", "label": label}, "labels[0]")
    assert caught.value.status == 400
