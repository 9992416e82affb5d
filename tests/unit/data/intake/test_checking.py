from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contlearn.data.intake.checking import RowChecker
from contlearn.interfaces import RowProblem
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from tests.unit.data.taking import make_config


def checker(known=(), task=None, **data):
    return RowChecker(task or TextClassification(), make_config(**data), known)


def refused(made, row):
    with pytest.raises(RowProblem) as caught:
        made.check(row)
    return caught.value


def test_text_stays_as_it_came_and_has_a_normal_form():
    found = checker().check({"text": " cafe\u0301  au\nlait ", "label": "menu"})
    assert found.inputs == {"text": " cafe\u0301  au\nlait "}
    assert found.normal == "café au lait"


def test_closed_set_refuses_and_names_the_near_label():
    problem = refused(checker(labels=("billing", "returns")), {"text": "a", "label": "Biling"})
    assert problem.reason == "unknown-label"
    assert "'billing'" in problem.message


@pytest.mark.parametrize("label", ["Spam", "ｓｐａｍ", "sp\u0430m", "spam\u200b"])
def test_open_set_refuses_what_looks_like_a_known_label(label):
    problem = refused(checker(known=("spam",)), {"text": "a", "label": label})
    assert problem.reason == "unknown-label"
    assert "'spam'" in problem.message


def test_labels_that_look_alike_are_taken_when_both_are_stated():
    made = checker(labels=("us", "US"), allow_new_labels=True)
    assert made.check({"text": "a", "label": "US"}).target == "US"
    assert made.check({"text": "a", "label": "us"}).target == "us"


def test_close_new_label_is_taken_with_a_warning():
    found = checker(known=("shipping",)).check({"text": "a", "label": "shiping"})
    assert found.target == "shiping"
    assert found.warnings[0][0] == "near-label"


def test_alias_is_applied_and_told():
    made = checker(labels=("billing",), label_aliases={"Rechnung": "billing"})
    found = made.check({"text": "a", "label": "Rechnung"})
    assert found.target == "billing"
    assert found.warnings[0][0] == "alias"


def test_alias_of_an_entity_type_changes_the_tags():
    made = checker(task=TokenClassification(), labels=("person",), label_aliases={"PER": "person"})
    found = made.check({"tokens": ["Ann", "Lee"], "tags": ["B-PER", "I-PER"]})
    assert found.target == ("B-person", "I-person")


def test_too_many_labels_are_refused():
    made = checker(limits={"labels": 2})
    for label in ("one", "another"):
        made.check({"text": "a", "label": label})
    assert refused(made, {"text": "a", "label": "third"}).reason == "unknown-label"


def test_unknown_entity_type_is_a_bad_tag():
    made = checker(task=TokenClassification(), labels=("person",))
    assert refused(made, {"tokens": ["a"], "tags": ["B-animal"]}).reason == "bad-tag"


def test_long_text_and_many_words_are_refused():
    assert (
        refused(checker(limits={"text_characters": 10}), {"text": "a" * 11, "label": "x"}).reason
        == "too-long"
    )
    made = checker(task=TokenClassification(), limits={"words": 2})
    assert refused(made, {"tokens": ["a"] * 3, "tags": ["O"] * 3}).reason == "too-long"


OPTIONAL = {"group": "customer", "weight": "weight", "timestamp": "at", "annotator": "by"}


def test_optional_fields_are_read_by_their_configured_names():
    found = checker(**OPTIONAL).check(
        {
            "text": "a",
            "label": "x",
            "customer": 17,
            "weight": "0.5",
            "by": "ann",
            "at": "2025-03-01T14:30:00+02:00",
        }
    )
    assert (found.group, found.weight, found.annotator) == ("17", 0.5, "ann")
    assert found.timestamp == datetime(2025, 3, 1, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("weight", "heavy", "wrong-type"),
        ("weight", True, "wrong-type"),
        ("weight", -1, "wrong-type"),
        ("weight", float("nan"), "non-finite"),
        ("weight", "inf", "non-finite"),
        ("at", "yesterday", "bad-time"),
        ("at", 1e300, "bad-time"),
        ("customer", ["a"], "wrong-type"),
        ("by", {"name": "a"}, "wrong-type"),
    ],
)
def test_wrong_optional_field_gets_its_reason(field, value, reason):
    row = {"text": "a", "label": "x", field: value}
    assert refused(checker(**OPTIONAL), row).reason == reason


def test_control_characters_are_kept_and_told():
    found = checker().check({"text": "a \x1b[31mred\x1b[0m word", "label": "x"})
    assert found.inputs["text"] == "a \x1b[31mred\x1b[0m word"
    assert found.warnings == (
        ("control-char", "The text holds control characters (U+001B); it is kept as it is."),
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({}, "C++"),
        ({"labels": ("C++",)}, "C++"),
        ({"label_aliases": {"C": "C++"}}, "C"),
        ({"labels": ("C++",), "label_aliases": {"C": "C++"}}, "C"),
    ],
)
def test_entity_type_that_its_key_would_take_apart_is_refused(data, kind):
    made = checker(task=TokenClassification(), **data)
    problem = refused(made, {"tokens": ["write", "it"], "tags": ["O", f"B-{kind}"]})
    assert problem.reason == "bad-tag"
    assert "'C++' holds '+', which joins the labels of a record" in problem.message


def test_entity_type_with_a_plus_sign_may_be_an_alias_and_one_that_is_known_stays():
    row = {"tokens": ["write", "it"], "tags": ["O", "B-C++"]}
    made = checker(task=TokenClassification(), label_aliases={"C++": "Cpp"})
    assert made.check(row).target == ("O", "B-Cpp")
    assert checker(known=("C++",), task=TokenClassification()).check(row).key == "C++"
    assert checker().check({"text": "write it", "label": "C++"}).key == "C++"
