"""Another base model under a champion: refused, moved, or begun again from."""

from __future__ import annotations

import json
import shutil

import pytest

from contlearn.testing import write_tiny_model
from tests.integration.conftest import CLASSIFIER
from tests.texts import WORDS, classified

pytestmark = pytest.mark.slow


def test_what_is_inside_is_what_manifest_and_show_name(program, tiny_model, tmp_path):
    first = shutil.copytree(tiny_model, tmp_path / "first")
    program.configure(CLASSIFIER, first)
    program.drop("1.jsonl", classified(["billing", "shipping"], 40))
    assert program.json("update")["outcome"] == "promoted"

    # The folder moved: the same files under another name.
    moved = first.rename(tmp_path / "moved")
    program.configure(CLASSIFIER, moved)
    program.drop("2.jsonl", classified(["billing", "shipping"], 40, seed=2))
    second = program.json("update")
    assert second["outcome"] == "promoted"
    assert not [said for said in second["warnings"] if "base" in said]
    assert program.json("show")["model"]["base"] == str(moved)

    # Another model: nothing runs.
    other = write_tiny_model(tmp_path / "other", words=WORDS, hidden_size=48, seed=5)
    program.configure(CLASSIFIER, other)
    program.drop("3.jsonl", classified(["billing", "shipping"], 40, seed=3))
    said = program.json("update", code=2)
    assert f"'{other}' would do nothing" in said["error"]
    assert (program.root / "inbox" / "3.jsonl").exists()
    assert program.json("show")["model"]["base"] == str(moved)

    # The way the error names: begin again from it with everything learnt so far.
    anew = program.json("update", "--strategy", "joint", "--force")
    assert anew["outcome"] == "promoted"
    inside = program.root / "versions" / str(anew["version"]) / "checkpoint"
    assert json.loads((inside / "encoder" / "config.json").read_bytes())["hidden_size"] == 48
    assert program.json("show")["model"]["base"] == str(other)

    # And from there on as ever.
    program.drop("4.jsonl", classified(["billing", "shipping"], 40, seed=4))
    assert program.json("update")["outcome"] == "promoted"
    assert program.json("show")["model"]["base"] == str(other)


def test_words_that_cannot_be_learnt_are_told_by_the_update_and_by_predictions(program, tiny_model):
    text = CLASSIFIER.replace("text-classification", "token-classification")
    program.configure(text, tiny_model)
    rows = [
        # A stray accent: a word of nothing that can be seen is refused when it is taken in.
        {"tokens": ["fly", "\u0301", "to", city, str(n)], "tags": ["O", "O", "O", "B-city", "O"]}
        for n, city in enumerate(["Rome", "Oslo", "Prague", "Lisbon"] * 15)
    ]
    program.drop("1.jsonl", rows)
    result = program.json("update")
    assert result["outcome"] == "promoted"
    (note,) = [said for said in result["warnings"] if "no piece in the tokenizer" in said]
    assert "0 of them labelled" in note
    # What stands behind such a word is read as if it were not there.
    cities = ["Rome", "Oslo", "Prague", "Lisbon"]
    plain = program.json("predict", *(f"fly to {city} 7" for city in cities))["predictions"]
    said = program.json("predict", *(f"fly \ufe0f to {city} 7" for city in cities))["predictions"]
    moved = [
        [{**e, "start": e["start"] + 2, "end": e["end"] + 2} for e in one["entities"]]
        for one in plain
    ]
    assert [one["entities"] for one in said] == moved
    assert any(moved)
    assert [one["unread"] for one in said] == [[{"start": 4, "end": 5, "reason": "no-pieces"}]] * 4
    shown = program.run("predict", "fly \ufe0f to Rome")
    assert "Text 1: the word from 4 to 5 (U+FE0F) has no piece, so it was not read." in shown
