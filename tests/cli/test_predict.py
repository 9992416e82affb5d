"""What `contlearn predict` prints, whole."""

from __future__ import annotations

import pytest

from contlearn.registry.promotion import promote
from tests.unit.inference.tiny import model_facts, write_model
from tests.unit.registry.staged import facts, make_registry, stage


@pytest.fixture
def registry(workspace):
    """One version of a model that knows a few words, not promoted yet."""
    made = make_registry(workspace.root)
    folder = stage(workspace.root, "c1")
    (folder / "onnx" / "model.onnx").unlink()
    write_model(folder / "onnx")
    model = {**model_facts(), "max_tokens": 8}
    made.register(folder, cycle_id="c1", parent=None, facts=facts(model=model))
    return made


@pytest.fixture
def predict(registry, in_workspace):
    promote(registry, 1, actor="ada", reason="")
    return lambda *arguments: in_workspace("predict", *arguments)


def test_predict_shows_texts_labels_and_what_was_cut(predict):
    ran = predict("good great film", "awful " * 10)
    assert ran.out == (
        "text                                                          label  confidence\n"
        "good great film                                               good       89.4 %\n"
        "awful awful awful awful awful awful awful awful awful awful   bad       100.0 %\n"
        "Text 2 was cut at the model's token limit.\n"
    )
    assert (ran.code, ran.err) == (0, "")


def test_predict_weighs_the_words_of_a_file(predict, tmp_path):
    (tmp_path / "texts.txt").write_text("bad\n\ngood\n")
    ran = predict("--file", tmp_path / "texts.txt", "--explain")
    assert ran.out == (
        "text  label  confidence\n"
        "bad   bad        96.4 %\n"
        "good  good       96.5 %\n"
        "  bad: bad(+3.3)\n"
        "  good: good(+3.3)\n"
    )
    assert (ran.code, ran.err) == (0, "")


def test_predict_wants_a_text(predict):
    ran = predict()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "Error: There is no text to predict.\n"
        "  where: predict\n"
        "  to do: Give texts as arguments, or a file with --file (- reads standard input).\n"
    )


def test_predict_wants_a_champion_or_a_version(registry, in_workspace, workspace):
    ran = in_workspace("predict", "good")
    assert ran.out == ""
    assert ran.code == 1
    assert ran.err == (
        "Error: No version was promoted yet.\n"
        f"  where: {workspace.versions}\n"
        "  to do: Run `contlearn update` first, or name a version.\n"
    )
    ran = in_workspace("predict", "good", "--version", "1")
    assert ran.out == "text  label  confidence\ngood  good       96.5 %\n"
