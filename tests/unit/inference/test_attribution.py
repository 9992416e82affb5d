from __future__ import annotations

import math

import pytest

from contlearn.inference.attribution import explain_input
from contlearn.inference.predictor import OnnxPredictor
from contlearn.tasks.text_classification import TextClassification, class_prediction
from contlearn.types import LabelSpace
from tests.served import LABELS, write_version


class Additive:
    """Log-odds of `yes` are the sum of the words' weights."""

    label_space = LabelSpace(("no", "yes"))

    def predict(self, inputs):
        weights = {"good": 2.0, "bad": -1.5, "very": 0.25}
        answers = []
        for item in inputs:
            words = [w for v in item.values() for w in (v.split() if isinstance(v, str) else v)]
            score = sum(weights.get(word.lower(), 0.0) for word in words)
            p = 1 / (1 + math.exp(-score))
            scores = {"no": 1 - p, "yes": p}
            label = max(scores, key=scores.get)
            answers.append(class_prediction(label, scores[label], scores))
        return answers


def test_weights_of_an_additive_model_are_its_own():
    text = "a Very good, bad film"
    found = explain_input(Additive(), {"text": "a very good bad film"})
    assert found.label == "yes"
    assert {p.text: round(p.weight, 6) for p in found.parts} == {
        "a": 0.0, "very": 0.25, "good": 2.0, "bad": -1.5, "film": 0.0
    }  # fmt: skip
    against = explain_input(Additive(), {"text": "good film"}, label="no")
    assert [round(p.weight, 6) for p in against.parts] == [-2.0, 0.0]
    for part in explain_input(Additive(), {"text": text}).parts:
        assert text[part.start : part.end] == part.text


def test_long_texts_are_explained_by_runs_and_texts_without_blanks_by_characters():
    long = " ".join(["very"] * 200)
    parts = explain_input(Additive(), {"text": long}).parts
    assert len(parts) <= 48
    assert " ".join(part.text for part in parts) == long
    assert [p.text for p in explain_input(Additive(), {"text": "退款 good"}).parts] == [
        "退",
        "款",
        "good",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("good ❤️ film", ["good", "❤️", "film"]),
        ("\ufeffgood", ["\ufeffgood"]),
        ("か\u3099ない", ["か\u3099", "な", "い"]),
    ],
)
def test_marks_are_explained_with_their_word(text, parts):
    assert [part.text for part in explain_input(Additive(), {"text": text}).parts] == parts


def test_one_word_and_no_word_have_an_answer():
    (part,) = explain_input(Additive(), {"text": "good"}).parts
    assert part.weight == pytest.approx(2.0)
    assert explain_input(Additive(), {"text": "   "}).parts == ()


def test_words_are_left_out_of_their_field_and_all_other_fields_stay():
    inputs = {"premise": "very good bad", "hints": ("good", "of a", "bad"), "hypothesis": "film"}

    class Strict(Additive):
        def predict(self, asked):
            assert all(one.keys() == inputs.keys() and all(one.values()) for one in asked)
            changed = [sum(one[name] != inputs[name] for name in inputs) for one in asked]
            assert changed == [0, *[1] * (len(asked) - 1)]
            return super().predict(asked)

    found = explain_input(Strict(), inputs)
    assert [(p.field, p.text, round(p.weight, 6)) for p in found.parts] == [
        ("premise", "very", 0.25), ("premise", "good", 2.0),
        ("premise", "bad", -1.5), ("hints", "good", 2.0), ("hints", "of a", 0.0),
        ("hints", "bad", -1.5), ("hypothesis", "film", 0.0),
    ]  # fmt: skip
    written = found.to_json()
    assert written["texts"]["hints"] == "good of a bad"
    for word in written["words"]:
        assert written["texts"][word["field"]][word["start"] : word["end"]] == word["text"]


def test_fields_are_not_named_where_there_is_one():
    written = explain_input(Additive(), {"text": "good"}).to_json()
    assert list(written) == ["label", "confidence", "words"]
    assert written["words"] == [{"start": 0, "end": 4, "text": "good", "weight": 2.0}]


def test_unknown_label_is_refused():
    with pytest.raises(ValueError, match="no label 'maybe'"):
        explain_input(Additive(), {"text": "good"}, label="maybe")


def test_an_exported_model_names_the_word_that_decided(tmp_path):
    folder = write_version(tmp_path, 1)
    predictor = OnnxPredictor(
        folder, task=TextClassification(), label_space=LabelSpace(LABELS), max_tokens=32
    )
    found = explain_input(predictor, {"text": "please help me with the exchange today"})
    best = max(found.parts, key=lambda part: part.weight)
    assert found.label == "returns"
    assert best.text == "exchange"
    predictor.close()
