from __future__ import annotations

import os
import shutil

import numpy as np
import onnx
import pytest

from contlearn.errors import RegistryError, ServingError
from contlearn.inference.golden import GOLDEN_TEXTS, check_golden, write_golden
from contlearn.inference.opening import open_session
from contlearn.inference.predictor import OnnxPredictor
from contlearn.inference.processor import available_cores, processor_features
from contlearn.plugins.manager import PluginManager
from contlearn.types import Encoding
from tests.unit.inference.tiny import GOOD, open_model, write_model, write_version


@pytest.fixture(scope="module")
def manager():
    return PluginManager(discover=False)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tags"), tagging=True)


def _version(tmp_path, **options):
    return write_version(tmp_path / "versions" / "1", **options)


def test_predictor_answers_each_text_in_order_whatever_their_lengths(texts):
    inputs = [
        {"text": " ".join(["the film was"] * n + [word])}
        for n in range(12)
        for word in ("good", "bad")
    ]
    predictions = open_model(texts, max_tokens=64).predict(inputs)
    assert [p.target for p in predictions] == ["good", "bad"] * 12
    assert all(abs(sum(p.scores.values()) - 1) < 1e-9 for p in predictions)


def test_predictor_gives_the_same_logits_alone_and_in_a_batch(texts):
    inputs = [{"text": f"the {'very ' * n}good film"} for n in range(20)]
    predictor = open_model(texts, threads=2, max_tokens=64)
    together = predictor.predict_detailed(inputs)
    alone = [predictor.predict_detailed([item])[0] for item in inputs]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
        np.testing.assert_allclose(one.projection, other.projection, atol=1e-5)


def test_predictor_puts_only_rows_of_nearly_equal_length_into_one_run(texts):
    predictor = open_model(texts, max_tokens=128)
    windows = predictor.task.encode(
        predictor.tokenizer,
        [{"text": " ".join(["good"] * n)} for n in (1, 50, 52, 3, 51, 100)],
        128,
    )
    flat = [encoding for (encoding,) in windows]
    runs = [[len(flat[i].input_ids) for i in run] for run in predictor._runs(flat)]
    assert runs == [[102], [54, 53, 52], [5], [3]]


def test_predictor_runs_int8_rows_one_by_one_so_that_neighbours_do_not_matter(tmp_path):
    predictor = open_model(write_model(tmp_path / "m", int8=True))
    assert predictor.precision == "int8"
    inputs = [{"text": f"the film was {word}"} for word in (*GOOD, "bad")]
    together = predictor.predict_detailed(inputs)
    for item, one in zip(inputs, together, strict=True):
        np.testing.assert_array_equal(predictor.predict_detailed([item])[0].logits, one.logits)


def test_predictor_counts_truncation_and_unknown_pieces(texts):
    answers = open_model(texts, max_tokens=6).predict_detailed(
        [{"text": "good"}, {"text": "the film was very very good"}, {"text": "zebra film zebra"}]
    )
    assert [a.truncated for a in answers] == [False, True, False]
    assert [a.unknown_pieces for a in answers] == [0, 0, 2]
    assert [a.tokens for a in answers] == [3, 6, 5]


def test_predictor_feeds_token_types_when_the_graph_has_them(tmp_path):
    predictor = open_model(write_model(tmp_path / "m", token_types=True))
    assert predictor.graph_inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert predictor.predict([{"text": "awful"}])[0].target == "bad"


def test_predictor_gives_one_row_of_logits_a_word(tags):
    predictor = open_model(tags, tagging=True)
    answer = predictor.predict_detailed([{"tokens": ("fly", "to", "rome")}])[0]
    assert answer.logits.shape == (3, 3)
    (entity,) = answer.prediction.value["entities"]
    assert [entity[name] for name in ("type", "text", "start", "end")] == ["city", "rome", 7, 11]


def test_predictor_tags_words_beyond_the_limit_as_outside(tags):
    prediction = open_model(tags, tagging=True, max_tokens=5).predict(
        [{"tokens": ("fly", "to", "the", "very", "rome")}]
    )[0]
    assert prediction.target == ("O",) * 5


def test_predictor_answers_nothing_with_nothing(texts):
    assert open_model(texts).predict([]) == []


def test_predictor_refuses_a_label_space_of_another_size(texts, tags):
    with pytest.raises(ServingError, match="gives 2 scores, but there are 3 labels"):
        open_model(texts, tagging=True)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_predictor_refuses_a_linked_file_by_name(tmp_path, texts, name):
    folder = shutil.copytree(texts, tmp_path / "linked")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ServingError, match=f"{name} is a link"):
        open_model(folder)
    (folder / name).unlink()
    os.link(tmp_path / name, folder / name)
    with pytest.raises(ServingError, match=f"{name} is hard-linked 2 times"):
        open_model(folder)


def test_predictor_refuses_a_missing_or_unreadable_file_by_name(tmp_path, texts):
    folder = shutil.copytree(texts, tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServingError, match=r"model\.onnx cannot be loaded"):
        open_model(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ServingError, match=r"tokenizer\.json cannot be read"):
        open_model(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ServingError, match=r"tokenizer\.json is missing"):
        open_model(folder)


def test_load_reads_the_facts_from_the_manifest_beside_or_inside(tmp_path, manager):
    folder = _version(tmp_path, number=1)
    assert OnnxPredictor.load(folder, manager=manager).version == 1
    copy = shutil.copytree(folder, tmp_path / "serving" / "1")
    shutil.copy(folder.parent / "manifest.json", copy)
    served = OnnxPredictor.load(copy, manager=manager)
    assert served.label_space.names == ("bad", "good")
    assert served.predict([{"text": "lovely"}])[0].target == "good"


def test_load_needs_a_manifest(tmp_path, manager):
    with pytest.raises(RegistryError, match=r"has no manifest\.json"):
        OnnxPredictor.load(write_model(tmp_path / "a" / "onnx"), manager=manager)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-7] + bytes([data[-7] ^ 1]) + data[-6:], "model.onnx was changed"),
        (lambda data: data[:100], "model.onnx is truncated: 100 bytes"),
        (lambda data: data + b"x", "model.onnx is longer than it was"),
    ],
)
def test_load_refuses_changed_files_by_name(tmp_path, manager, damage, message):
    folder = _version(tmp_path)
    path = folder / "model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ServingError, match=message):
        OnnxPredictor.load(folder, manager=manager)


def test_load_takes_int8_without_asking_on_the_processor_it_was_made_for(tmp_path, manager):
    folder = _version(tmp_path, int8=True, processor=("avx2", "avx512_vnni"))
    predictor = OnnxPredictor.load(folder, manager=manager, features=("avx512_vnni", "avx2"))
    assert (predictor.precision, predictor.notes) == ("int8", ())


def test_load_checks_int8_again_on_another_processor(tmp_path, manager):
    folder = _version(tmp_path, int8=True, processor=("avx512_vnni",))
    predictor = OnnxPredictor.load(folder, manager=manager, features=("avx_vnni",))
    assert predictor.precision == "int8"
    assert predictor.notes == ("int8 was checked again on this processor and holds",)


def _forge_golden(folder):
    """Make the recorded answers others than this processor gives, as saturation would."""
    path = folder.parent / "manifest.json"
    path.write_text(path.read_text().replace('"logits": [[', '"logits": [[9', 1))
    return folder


def test_load_falls_back_to_fp32_where_8_bit_products_saturate(tmp_path, manager, monkeypatch):
    folder = _version(tmp_path, int8=True, processor=("avx512_vnni",))
    why = "fp32 instead of int8: 8-bit products saturate on this processor (no VNNI)"
    predictor = OnnxPredictor.load(folder, manager=manager, features=("avx2",))
    assert (predictor.precision, predictor.notes) == ("fp32", (why,))
    monkeypatch.setenv("CONTLEARN_PROCESSOR_FEATURES", "avx2,avx512f")
    predictor = OnnxPredictor.load(folder, manager=manager)
    assert (predictor.precision, predictor.notes) == ("fp32", (why,))


def test_load_falls_back_to_fp32_where_int8_answers_wrongly(tmp_path, manager):
    folder = _forge_golden(_version(tmp_path, int8=True, processor=("avx512_vnni",)))
    predictor = OnnxPredictor.load(folder, manager=manager, features=("avx_vnni",))
    assert predictor.precision == "fp32"
    assert "it is wrong on this processor: golden text 1 differs" in predictor.notes[0]
    assert predictor.predict([{"text": "fine film"}])[0].target == "good"


def test_load_refuses_wrong_int8_without_an_fp32_twin(tmp_path, manager):
    folder = _forge_golden(_version(tmp_path, int8=True, processor=("avx512_vnni",)))
    (folder / "model.fp32").unlink()
    manifest = folder.parent / "manifest.json"
    import json

    value = json.loads(manifest.read_text())
    del value["files"]["onnx/model.fp32"]
    manifest.write_text(json.dumps(value))
    with pytest.raises(ServingError, match="int8 model cannot be used: it is wrong on this"):
        OnnxPredictor.load(folder, manager=manager, features=("avx2",))


def test_golden_answers_repeat_and_hold_no_foreign_text(texts, tags):
    for folder, tagging in ((texts, False), (tags, True)):
        predictor = open_model(folder, tagging=tagging)
        golden = write_golden(predictor)
        assert golden["texts"] == list(GOLDEN_TEXTS)
        assert golden["graph"]["inputs"] == ["input_ids", "attention_mask"]
        assert check_golden(predictor, golden) == []


def test_golden_finds_another_model(tmp_path, texts):
    golden = write_golden(open_model(texts))
    other = open_model(write_model(tmp_path / "other", seed=1))
    assert "differs by" in check_golden(other, golden)[0]
    assert check_golden(other, None) == ["the manifest has no golden answers to compare with"]


def test_processor_features_read_the_first_flags_line():
    assert processor_features("model name: x\nflags\t: avx2 sse avx_vnni\nflags\t: avx512f") == (
        "avx2",
        "avx_vnni",
    )
    assert processor_features("Features : fp asimddp i8mm") == ("asimddp", "i8mm")
    assert processor_features("nothing here") == ()
    assert available_cores() >= 1


def test_ids_of_a_client_have_logits_and_a_prediction_where_a_text_has_one_row(texts, tags):
    ids = Encoding(input_ids=(2, 4, 5, 3), word_starts=(0, 1, 2, 3))
    (answer,) = open_model(texts).answer_ids([ids])
    assert (answer.prediction.target, answer.logits.shape) == ("good", (2,))
    (answer,) = open_model(tags, tagging=True).answer_ids([ids])
    assert (answer.prediction.value, answer.prediction.labels) == ({}, ())
    assert answer.logits.shape == (4, 3)


@pytest.mark.parametrize("location", ["../outside.bin", "{tmp}/outside.bin", "link.bin"])
def test_a_graph_whose_weights_lie_outside_its_folder_is_refused(tmp_path, location):
    folder = tmp_path / "onnx"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    weights = onnx.TensorProto(name="w", dims=[4], data_type=onnx.TensorProto.FLOAT)
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location.format(tmp=tmp_path))
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in "xy"]
    add = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([add], "g", ends[:1], ends[1:], [weights])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        ServingError, match=r"model\.onnx cannot be loaded: .*[Ee]xternal data path"
    ):
        open_session(folder / "model.onnx", 1)
