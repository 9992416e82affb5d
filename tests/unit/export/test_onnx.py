from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch

from contlearn.config import ExportConfig
from contlearn.errors import ExportError
from contlearn.export import onnx as exporting
from contlearn.export.blocks import BLOCK, block_embeddings, quantize_rows
from contlearn.export.graph import export_graph, fuse_graph
from contlearn.export.onnx import NO_OPTIMUM, export_model
from contlearn.export.parity import Comparison, compare, make_reference, open_session
from contlearn.export.quantize import LADDER
from contlearn.inference.manifest import FALLBACK_FILE
from contlearn.inference.predictor import OnnxPredictor
from contlearn.inference.processor import has_safe_int8, processor_features
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import load_checkpoint, new_checkpoint, save_checkpoint
from contlearn.packages import transformers_version
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.training.methods import METHODS
from contlearn.types import LabelSpace

TEXTS = [
    {"text": text}
    for text in ("invoice refund today", "rose", "my parcel is wrong " * 6, "a b c d")
]
WORDS = [{"tokens": tuple(item["text"].split())} for item in TEXTS]
KINDS = ["sequence", "word"]
PACKED = torch.tensor([[[2, 10, 11, 3], [1, 1, 1, 1]]])


def clear_cut(checkpoint):
    """Give the head rows so far apart that no label is near another."""
    torch.manual_seed(0)
    head = checkpoint.model.head
    head.set_rows(torch.randn_like(head.weight), torch.zeros_like(head.bias))


def compared(difference, agreement, rows):
    """A comparison of scores whose spread is 1."""
    return Comparison(
        max_abs_difference=difference,
        relative_difference=difference,
        spread=1.0,
        agreement=agreement,
        rows=rows,
    )


@pytest.fixture(scope="module", params=KINDS)
def case(request, tiny_model, tmp_path_factory):
    """A checkpoint of each kind: (folder, task, samples, label space)."""
    folder = tmp_path_factory.mktemp("export") / "checkpoint"
    word = request.param == "word"
    task = TokenClassification() if word else TextClassification()
    space = LabelSpace(("O", "B-x", "I-x")) if word else LabelSpace(("no", "maybe", "yes"))
    checkpoint = new_checkpoint(str(tiny_model), head=task.heads(space)[0])
    clear_cut(checkpoint)
    save_checkpoint(checkpoint, folder)
    return folder, task, WORDS if word else TEXTS, space


def exported(case, folder, **options):
    checkpoint, task, samples, _ = case
    return export_model(
        checkpoint,
        folder,
        task=task,
        samples=samples,
        options=ExportConfig.model_validate(options),
        max_tokens=32,
        temperature=1.5,
    )


@pytest.fixture(scope="module")
def plain(case, tmp_path_factory):
    """The case exported in fp32, to be read only: (folder, report)."""
    folder = tmp_path_factory.mktemp("plain") / "onnx"
    return folder, exported(case, folder, precision="fp32")


def test_export_agrees_with_its_checkpoint(plain):
    folder, report = plain
    assert report.precision == "fp32"
    assert report.max_abs_difference < 1e-4
    assert report.label_agreement == 1.0
    assert report.fused["Attention"] == 2
    assert report.fused["SkipLayerNormalization"] >= 2
    assert report.size_bytes == (folder / "model.onnx").stat().st_size


def test_export_writes_one_model_and_what_loaders_look_for(case, plain):
    folder, _ = plain
    names = {path.name for path in folder.iterdir()}
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert [path.name for path in folder.glob("*.onnx*")] == ["model.onnx"]
    assert [path.name for path in folder.parent.iterdir()] == ["onnx"]
    config = json.loads((folder / "config.json").read_text())
    space = case[3]
    assert config["id2label"] == {str(i): name for i, name in enumerate(space.names)}
    assert config["label2id"] == space.index()
    kind = "Token" if case[1].labelling == "spans" else "Sequence"
    assert config["architectures"] == [f"BertFor{kind}Classification"]
    assert config["contlearn"] == {"task": case[1].name, "temperature": 1.5, "max_tokens": 32}
    assert str(case[0]) not in (folder / "config.json").read_text()


def test_graph_has_logits_and_a_fixed_projection(case, plain, tmp_path):
    exported(case, tmp_path / "again", precision="fp32")
    values = []
    for folder in (plain[0], tmp_path / "again"):
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert {item.name for item in session.get_outputs()} == {"logits", "projection"}
        feed = {
            "input_ids": np.array([[2, 10, 11, 3], [2, 12, 3, 0]]),
            "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
        }
        logits, projection = session.run(["logits", "projection"], feed)
        assert logits.shape[0] == 2
        assert logits.shape[-1] == 3
        assert projection.shape == (2, 32)
        values.append(projection)
    assert np.array_equal(values[0], values[1])


@pytest.mark.transformers4
def test_exported_folder_loads_with_optimum_and_gives_the_same_labels(case, plain):
    from optimum.onnxruntime import (
        ORTModelForSequenceClassification,
        ORTModelForTokenClassification,
    )
    from transformers import AutoTokenizer

    _, task, samples, space = case
    word = task.labelling == "spans"
    kind = ORTModelForTokenClassification if word else ORTModelForSequenceClassification
    model = kind.from_pretrained(plain[0])
    assert model.config.num_labels == len(space)
    tokenizer = AutoTokenizer.from_pretrained(plain[0])
    values = [s["tokens"] if word else s["text"] for s in samples]
    values = [list(v) for v in values] if word else values
    inputs = tokenizer(
        values,
        is_split_into_words=word,
        padding=True,
        truncation=True,
        max_length=32,
        return_tensors="pt",
    )
    logits = model(**inputs).logits
    theirs = logits.argmax(dim=-1)
    predictor = OnnxPredictor(plain[0], task=task, label_space=space, max_tokens=32)
    answers = predictor.predict_detailed(samples)
    for row, answer in enumerate(answers):
        ours = np.atleast_2d(answer.logits).argmax(axis=1)
        if word:
            starts = [
                i
                for i, w in enumerate(inputs.word_ids(row))
                if w is not None and w != (inputs.word_ids(row)[i - 1] if i else None)
            ]
            assert ours.tolist() == theirs[row, starts].tolist()
        else:
            assert model.config.id2label[int(theirs[row])] == answer.prediction.target
    predictor.close()


def test_int8_is_smaller_and_has_its_fp32_twin(case, plain, tmp_path):
    report = exported(case, tmp_path / "onnx", precision="int8", min_label_agreement=0.5)
    folder, fp32 = plain
    assert report.precision == "int8"
    assert report.size_bytes < fp32.size_bytes
    twin = (tmp_path / "onnx" / FALLBACK_FILE).read_bytes()
    assert twin == (folder / "model.onnx").read_bytes()
    predictor = OnnxPredictor(tmp_path / "onnx", task=case[1], label_space=case[3], max_tokens=32)
    assert predictor.precision == "int8"
    assert len(predictor.predict(case[2])) == len(case[2])
    predictor.close()


def test_auto_falls_back_to_fp32_when_no_recipe_agrees(case, tmp_path, monkeypatch):
    _int8_says(monkeypatch, *[compared(0.4, 0.97, 100)] * len(LADDER))
    report = exported(case, tmp_path / "onnx")
    assert (report.precision, report.recipe) == ("fp32", "")
    said = "97.00% of 100 rows, less than export.min_label_agreement = 0.99"
    assert said in _last_note(report)
    assert [item["recipe"] for item in report.tried] == ["", *LADDER]
    assert not (tmp_path / "onnx" / FALLBACK_FILE).exists()


def test_auto_falls_back_to_fp32_when_int8_is_not_faster(case, tmp_path, monkeypatch):
    _int8_says(monkeypatch, *[compared(0.1, 1.0, 100)] * len(LADDER), seconds=(0.001, 0.002))
    report = exported(case, tmp_path / "onnx")
    assert report.precision == "fp32"
    assert "it is not faster here (2.00 ms against 1.00 ms a text)" in _last_note(report)


def test_auto_takes_int8_when_it_agrees_and_is_faster(case, tmp_path, monkeypatch):
    _int8_says(monkeypatch, compared(0.1, 0.995, 100), seconds=(0.002, 0.001))
    report = exported(case, tmp_path / "onnx")
    assert (report.precision, report.recipe, report.label_agreement) == ("int8", LADDER[0], 0.995)
    assert [item.get("milliseconds") for item in report.tried] == [2.0, 1.0]


def test_auto_goes_down_the_ladder_until_a_recipe_agrees(case, tmp_path, monkeypatch):
    outcomes = compared(0.4, 0.98, 100), compared(0.1, 0.995, 100)
    _int8_says(monkeypatch, *outcomes, seconds=(0.002, 0.001))
    report = exported(case, tmp_path / "onnx")
    assert (report.precision, report.recipe) == ("int8", "mixed")
    assert _last_note(report).startswith(
        "int8 (dynamic) was left: it gives the label of its source"
    )
    predictor = OnnxPredictor(tmp_path / "onnx", task=case[1], label_space=case[3], max_tokens=32)
    assert predictor.precision == "int8"
    predictor.close()


def test_auto_stays_with_fp32_where_8_bit_products_saturate(case, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "processor_features", lambda: ("avx2",))
    report = exported(case, tmp_path / "onnx")
    assert report.precision == "fp32"
    assert report.processor == ("avx2",)
    assert "saturate on this processor (no VNNI)" in _last_note(report)


def test_int8_that_was_asked_for_and_does_not_agree_is_an_error(case, tmp_path, monkeypatch):
    _int8_says(monkeypatch, *[compared(0.4, 0.5, 100)] * len(LADDER))
    with pytest.raises(ExportError, match=r"50\.00% of 100 rows"):
        exported(case, tmp_path / "onnx", precision="int8")
    assert not (tmp_path / "onnx").exists()


def _last_note(report):
    return [note for note in report.notes if note != NO_OPTIMUM][-1]


def _int8_says(monkeypatch, *outcomes, seconds=(0.002, 0.001)):
    """Let the comparisons of quantised graphs come out like this; the fp32 one is real."""
    import contlearn.export.parity as parity

    monkeypatch.setattr(exporting, "processor_features", lambda: ("avx512_vnni",))
    left = iter(outcomes)

    def answer(session, reference, *, tolerance, alone=False):
        found = next(left, None) if alone else None
        return found or compare(session, reference, tolerance=tolerance, alone=alone)

    monkeypatch.setattr(parity, "compare", answer)
    monkeypatch.setattr(parity, "median_seconds", lambda *_, **__: list(seconds))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int8-static", "fp16"])
def test_every_precision_is_near_its_source(case, tmp_path, precision):
    checkpoint, task, samples, space = case
    report = export_model(
        checkpoint,
        tmp_path / "onnx",
        task=task,
        samples=samples,
        options=ExportConfig(min_label_agreement=0.5),
        max_tokens=32,
        calibration=samples,
        precision=precision,
    )
    assert report.precision == precision.removesuffix("-static")
    # Where 8-bit products saturate there are 7 bits: the steps are twice as wide.
    eight = 0.5 if has_safe_int8(processor_features()) else 1.0
    assert 0.0 < report.max_abs_difference < {"fp16": 0.02}.get(precision, eight)
    assert report.max_tokens == 32
    assert report.position_limit == 64
    predictor = OnnxPredictor(tmp_path / "onnx", task=task, label_space=space, max_tokens=32)
    together = predictor.predict_detailed(samples)
    for item, answer in zip(samples, together, strict=True):
        alone = predictor.predict_detailed([item])[0]
        if precision != "fp16":
            assert np.array_equal(alone.logits, answer.logits)
    predictor.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[pytest.mark.transformers4] if name == "bottleneck" else [])
        for name in sorted(METHODS)
    ],
)
def test_every_fine_tuning_method_is_exported(method, tiny_model, tmp_path):
    checkpoint = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
    )
    clear_cut(checkpoint)
    before = checkpoint.model.get_features(PACKED).detach()
    kind = METHODS[method]
    chosen = {"config": "LoHaConfig", "arguments": {"r": 2, "target_modules": ["query", "value"]}}
    made = kind(kind.Options.model_validate(chosen if method == "peft" else {}))
    made.begin(checkpoint.model)
    with torch.no_grad():
        for parameter in checkpoint.model.encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    made.end(checkpoint.model)
    checkpoint.model.eval()
    trained = checkpoint.model.get_features(PACKED).detach()
    # The head alone leaves the features as they are.
    assert torch.allclose(trained, before, atol=1e-3) == (method == "head-only")
    save_checkpoint(checkpoint, tmp_path / "c")
    report = export_model(
        tmp_path / "c",
        tmp_path / "onnx",
        task=TextClassification(),
        samples=TEXTS,
        options=ExportConfig(precision="fp32"),
        max_tokens=32,
    )
    assert report.label_agreement == 1.0
    if method in ("bottleneck", "prefix-tuning"):
        assert any("fused" in note for note in report.notes)  # recorded as absent
    else:
        assert report.fused["Attention"] == 2


def test_static_int8_needs_something_to_calibrate_on(case, tmp_path):
    with pytest.raises(ExportError, match="no text to calibrate"):
        exported(case, tmp_path / "onnx", precision="int8-static")
    assert not (tmp_path / "onnx").exists()


def test_limit_beyond_the_encoders_places_is_an_error(case, tmp_path):
    checkpoint, task, samples, _ = case
    with pytest.raises(ExportError, match="pieces are allowed, but the encoder has places for 64"):
        export_model(checkpoint, tmp_path / "onnx", task=task, samples=samples,
                     options=ExportConfig(), max_tokens=65)  # fmt: skip


def test_tokenizer_of_the_export_cuts_where_training_cut(plain):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plain[0])
    assert len(tokenizer("one two " * 100, truncation=True)["input_ids"]) == 32


@pytest.mark.parametrize("width", [5, BLOCK, BLOCK + 7, 3 * BLOCK])
def test_rounding_by_blocks_is_within_half_a_step(width):
    values = np.random.default_rng(0).normal(0, 1, (4, width)).astype(np.float32)
    values[0] = 0.0
    values[1, 0] = 1000.0
    rounded, scales = quantize_rows(values)
    assert rounded.shape == (4, scales.shape[1] * BLOCK)
    steps = np.repeat(scales, BLOCK, axis=1)
    back = (rounded.astype(np.float32) - 128) * steps
    assert np.all(np.abs(back[:, :width] - values) <= steps[:, :width] * 0.5001)
    assert np.all(back[:, width:] == 0.0)
    # One large number makes its own block coarse, and no other.
    assert np.abs(back[1, BLOCK:width] - values[1, BLOCK:width]).max(initial=0.0) < 0.02


def test_no_parity_no_folder(case, tmp_path, monkeypatch):
    import contlearn.export.graph as graph

    def other(checkpoint, folder):
        with torch.no_grad():
            checkpoint.model.head.weight.mul_(-1)
        export_graph(checkpoint, folder)
        with torch.no_grad():
            checkpoint.model.head.weight.mul_(-1)

    monkeypatch.setattr(graph, "export_graph", other)
    with pytest.raises(ExportError, match="differs from its checkpoint") as caught:
        exported(case, tmp_path / "onnx", precision="fp32")
    assert "max_logit_difference" in caught.value.hint
    assert "of their spread of " in caught.value.what
    assert "export.max_logit_difference = 0.001 of the spread, and every label" in (
        caught.value.where
    )
    assert not (tmp_path / "onnx").exists()


def test_scores_of_thousands_are_judged_by_their_spread(case, tmp_path):
    """Rows that are far apart give a head whose scores are that large; rounding grows with them."""
    folder, task, samples, _ = case
    checkpoint = load_checkpoint(folder)
    checkpoint.model.head.set_rows(
        1e4 * checkpoint.model.head.weight.detach(), checkpoint.model.head.bias.detach()
    )
    save_checkpoint(checkpoint, tmp_path / "large")
    report = exported(
        (tmp_path / "large", task, samples, None), tmp_path / "onnx", precision="fp32"
    )
    assert report.max_abs_difference > 1e-3
    assert report.relative_difference < 1e-5
    assert report.logit_spread > 1e3
    assert report.required == {"max_logit_difference": 1e-3, "label_agreement": 1.0}
    assert report.to_json()["required"] == dict(report.required)


def test_what_is_required_of_a_rounded_graph_is_agreement(case, tmp_path):
    report = exported(case, tmp_path / "onnx", precision="int8", min_label_agreement=0.5)
    assert report.required == {"max_logit_difference": None, "label_agreement": 0.5}


def _quantising_fails(monkeypatch):
    import contlearn.export.choice as choice

    def fails(*_, **__):
        raise ValueError("unknown initializers\nand more")

    monkeypatch.setattr(exporting, "processor_features", lambda: ("avx512_vnni",))
    monkeypatch.setattr(choice, "quantize_graph", fails)


def test_auto_falls_back_to_fp32_with_a_warning_when_8_bits_cannot_be_made(
    case, tmp_path, monkeypatch
):
    _quantising_fails(monkeypatch)
    report = exported(case, tmp_path / "onnx")
    assert report.precision == "fp32"
    assert report.warnings == tuple(
        f"int8 ({recipe}) was left: it could not be made: unknown initializers" for recipe in LADDER
    )
    assert set(report.warnings) <= set(report.notes)
    assert report.to_json()["warnings"] == list(report.warnings)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_precision_that_was_asked_for_and_cannot_be_made_is_an_error_in_words(
    case, tmp_path, monkeypatch, precision
):
    import contlearn.export.choice as choice

    _quantising_fails(monkeypatch)
    monkeypatch.setattr(choice, "halve_graph", choice.quantize_graph)
    checkpoint, task, samples, _ = case
    with pytest.raises(ExportError, match=f"{precision} was asked for, but it could not be made"):
        export_model(
            checkpoint,
            tmp_path / "onnx",
            task=task,
            samples=samples,
            options=ExportConfig(),
            max_tokens=32,
            precision=precision,
        )
    assert not (tmp_path / "onnx").exists()


def test_rounding_keeps_the_weights_that_only_a_branch_reads():
    from onnx import TensorProto, helper, numpy_helper

    def number(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    def branch(name):
        node = helper.make_node("Identity", ["kept"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [number(f"{name}_out")])

    node = helper.make_node(
        "If", ["which"], ["y"], then_branch=branch("yes"), else_branch=branch("no")
    )
    which = helper.make_tensor_value_info("which", TensorProto.BOOL, [])
    weights = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in ("kept", "nobody")]
    model = helper.make_model(helper.make_graph([node], "g", [which], [number("y")], weights))
    block_embeddings(model)
    assert [item.name for item in model.graph.initializer] == ["kept"]


def test_fusion_is_left_out_when_it_changes_answers(case, tmp_path, monkeypatch):
    import contlearn.export.parity as parity

    outcomes = iter([compared(0.7, 0.9, 10), compared(0.0, 1.0, 10)])

    def answer(session, reference, **options):
        return next(outcomes, None) or compare(session, reference, **options)

    monkeypatch.setattr(parity, "compare", answer)
    report = exported(case, tmp_path / "onnx", precision="fp32")
    assert report.fused == {}
    assert report.notes[0].startswith("fusion was left out: it differs by 0.7")
    assert report.notes[1] == "no operator was fused"


def test_export_never_overwrites(case, tmp_path):
    (tmp_path / "onnx").mkdir()
    with pytest.raises(ExportError, match="There is something at onnx already"):
        exported(case, tmp_path / "onnx", precision="fp32")


def test_comparison_sees_one_wrong_row_in_a_padded_batch(case, tmp_path):
    folder, task, samples, _ = case
    source = load_checkpoint(folder, attention="eager")
    export_graph(source, tmp_path / "plain")
    reference = make_reference(source, samples, task=task, max_tokens=32)
    session = open_session(tmp_path / "plain" / "model.onnx")

    class Wrong:
        def run(self, names, feed):
            logits = session.run(["logits"], feed)[0]
            if len(logits) > 1:
                logits[1] = -logits[1]
            return [logits]

    assert compare(session, reference, tolerance=1e-3).agreement == 1.0
    assert compare(Wrong(), reference, tolerance=1e-3).agreement < 1.0


def test_labels_that_the_source_holds_for_equal_count_as_equal(case, tmp_path):
    folder, task, samples, _ = case
    source = load_checkpoint(folder, attention="eager")
    reference = make_reference(source, samples[:1], task=task, max_tokens=32)
    reference.logits = [np.array([[1.0, 1.0 + 5e-4, 0.0]] * len(rows)) for rows in reference.logits]

    class Near:
        def run(self, names, feed):
            shape = feed["input_ids"].shape if reference.has_places else feed["input_ids"].shape[:1]
            return [np.tile(np.array([1.0 + 1e-4, 1.0, 0.0]), (*shape, 1))]

    assert compare(Near(), reference, tolerance=1e-3).agreement == 1.0
    assert compare(Near(), reference, tolerance=1e-4).agreement == 0.0


def test_logits_that_are_no_numbers_are_never_equal(case):
    folder, task, samples, _ = case
    reference = make_reference(load_checkpoint(folder), samples[:1], task=task, max_tokens=32)

    class Broken:
        def run(self, names, feed):
            shape = feed["input_ids"].shape if reference.has_places else feed["input_ids"].shape[:1]
            return [np.full((*shape, 3), np.nan)]

    assert compare(Broken(), reference, tolerance=1e-3).max_abs_difference == float("inf")


def test_first_piece_pooling_is_inside_the_graph(tiny_model, tmp_path):
    checkpoint = new_checkpoint(
        str(tiny_model),
        head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b"))),
        pooling="first",
    )
    clear_cut(checkpoint)
    save_checkpoint(checkpoint, tmp_path / "c")
    report = export_model(
        tmp_path / "c",
        tmp_path / "onnx",
        task=TextClassification(),
        samples=TEXTS,
        options=ExportConfig(precision="fp32"),
        max_tokens=32,
    )
    assert report.max_abs_difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["distilbert", "roberta"])
def test_other_encoders_are_exported_too(model_type, tiny_model, tmp_path):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.for_model(
        model_type, vocab_size=200, hidden_size=32, dim=32, n_layers=2, num_hidden_layers=2,
        n_heads=2, num_attention_heads=2, hidden_dim=48, intermediate_size=48,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "base")
    checkpoint = new_checkpoint(
        str(tmp_path / "base"), head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
    )
    clear_cut(checkpoint)
    save_checkpoint(checkpoint, tmp_path / "c")
    report = export_model(
        tmp_path / "c",
        tmp_path / "onnx",
        task=TextClassification(),
        samples=TEXTS,
        options=ExportConfig(precision="fp32"),
        max_tokens=32,
    )
    assert report.max_abs_difference < 1e-3
    assert report.fused["SkipLayerNormalization"] >= 4
    # onnxruntime's optimiser does not know distilbert's attention as transformers 4.57 writes it.
    is_known = model_type == "roberta" or not transformers_version().startswith("4.")
    assert report.fused.get("Attention") == (2 if is_known else None)
    said = tuple(note for note in report.notes if note != NO_OPTIMUM)
    assert said == (() if is_known else ("attention was not fused",))


def test_fuse_copies_a_graph_with_nothing_to_fuse(tmp_path):
    from onnx import TensorProto, helper, save

    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *([s] for s in shapes))
    (tmp_path / "plain").mkdir()
    opset = helper.make_opsetid("", 18)
    save(
        helper.make_model(graph, opset_imports=[opset], ir_version=8),
        tmp_path / "plain" / "model.onnx",
    )
    (tmp_path / "plain" / "config.json").write_text('{"model_type": "bert"}')
    assert fuse_graph(tmp_path / "plain", tmp_path / "fused") == {}
    copies = [(tmp_path / name / "model.onnx").read_bytes() for name in ("plain", "fused")]
    assert copies[0] == copies[1]


def test_optimiser_that_fails_is_told_and_the_graph_stays_unfused(case, tmp_path, monkeypatch):
    import contlearn.export.graph as graph

    def fails(folder, output):
        raise IndexError("list index out of range")

    monkeypatch.setattr(graph, "fuse_graph", fails)
    report = exported(case, tmp_path / "onnx", precision="fp32")
    assert report.fused == {}
    assert report.notes[0] == (
        "fusion was left out: onnxruntime's optimiser failed "
        "(IndexError('list index out of range'))"
    )


def test_export_says_that_optimum_has_not_loaded_it(case, tmp_path, monkeypatch):
    import contlearn.export.parity as parity

    monkeypatch.setattr(parity, "open_with_optimum", lambda *_, **__: None)
    assert NO_OPTIMUM in exported(case, tmp_path / "onnx", precision="fp32").notes


@pytest.mark.transformers4
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_optimum_loads_every_export_and_answers_as_the_graph(
    case, tmp_path, monkeypatch, precision
):
    import contlearn.export.parity as parity

    opened, differences = parity.open_with_optimum, []

    def answer(session, reference, **options):
        found = compare(session, reference, **options)
        if not isinstance(session, onnxruntime.InferenceSession):
            differences.append((found.max_abs_difference, found.rows))
        return found

    monkeypatch.setattr(parity, "compare", answer)
    options = {"precision": precision, "min_label_agreement": 0.5}
    assert NO_OPTIMUM not in exported(case, tmp_path / "onnx", **options).notes
    ((difference, rows),) = differences
    # A rounded graph is compared with itself.
    assert difference < 1e-4 if precision == "fp32" else difference == 0.0
    assert rows > 0

    class Wrong:
        def __init__(self, model):
            self.model = model

        def run(self, names, feed):
            return [-self.model.run(names, feed)[0]]

    def wrong(folder, *, words):
        return Wrong(opened(folder, words=words))

    monkeypatch.setattr(parity, "open_with_optimum", wrong)
    with pytest.raises(
        ExportError, match="Loaded with optimum, the exported model answers otherwise"
    ):
        exported(case, tmp_path / "wrong", **options)
    assert not (tmp_path / "wrong").exists()


def test_folder_that_optimum_does_not_load_is_an_error(case, tmp_path, monkeypatch):
    import contlearn.export.parity as parity

    def broken(folder, *, words):
        raise OSError("no such file")

    monkeypatch.setattr(parity, "open_with_optimum", broken)
    with pytest.raises(ExportError, match="optimum does not load or run the exported folder"):
        exported(case, tmp_path / "onnx", precision="fp32")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize(
    ("features", "safe"),
    [
        ((), False),
        (("avx2",), False),
        (("avx512f", "avx512bw"), False),
        (("avx_vnni",), True),
        (("asimddp",), True),
    ],
)
def test_int8_is_safe_only_with_instructions_that_add_in_32_bits(features, safe):
    assert has_safe_int8(features) is safe
