"""A tiny ONNX text model of our own: each word has scores, a text's logits are their mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from contlearn.inference.golden import write_golden
from contlearn.inference.manifest import describe_files
from contlearn.inference.predictor import OnnxPredictor
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.types import LabelSpace

GOOD = ("good", "lovely", "fine")
BAD = ("bad", "awful", "broken")
OTHER = ("the", "film", "was", "to", "rome", "fly", "and", "very", "yes", "sky", "is", "grey")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *OTHER)
CLASSES = LabelSpace(("bad", "good"))
TAGS = LabelSpace(("O", "B-city", "I-city"))
WIDTH = 16


def write_model(
    folder: Path,
    *,
    tagging: bool = False,
    int8: bool = False,
    token_types: bool = False,
    seed: int = 0,
) -> Path:
    """Write model.onnx, tokenizer.json and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    generator = np.random.default_rng(seed)
    labels = TAGS if tagging else CLASSES
    table = generator.normal(0, 0.05, (len(PIECES), WIDTH)).astype(np.float32)
    head = np.zeros((WIDTH, len(labels)), dtype=np.float32)
    for column in range(len(labels)):
        head[column, column] = 5.0
    for words, column in ((("rome",), 1), ((), 0)) if tagging else ((GOOD, 1), (BAD, 0)):
        for word in words:
            table[PIECES.index(word), column] = 2.0
    if tagging:
        table[:, 0] += 0.5
    spread = generator.normal(0, 1, (WIDTH, 32)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["states", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["summed"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["length"], keepdims=1),
        helper.make_node("Div", ["summed", "length"], ["pooled"]),
        helper.make_node("MatMul", ["states" if tagging else "pooled", "head"], ["logits"]),
        helper.make_node("MatMul", ["pooled", "spread"], ["projection"]),
    ]
    names = ["input_ids", "attention_mask"]
    if token_types:
        names.append("token_type_ids")
    constants = {
        "table": table,
        "head": head,
        "spread": spread,
        "last": np.array([2], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
    }
    shape = ["b", "l", len(labels)] if tagging else ["b", len(labels)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "l"]) for n in names],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("projection", TensorProto.FLOAT, ["b", 32]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        full = path.rename(folder / "model.fp32")
        quantize_dynamic(full, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return folder


def open_model(folder: Path, *, tagging: bool = False, **options) -> OnnxPredictor:
    return OnnxPredictor(
        folder,
        task=TokenClassification() if tagging else TextClassification(),
        label_space=TAGS if tagging else CLASSES,
        max_tokens=options.pop("max_tokens", 16),
        **options,
    )


def write_version(
    folder: Path, *, number: int = 1, processor=(), tagging: bool = False, **options
) -> Path:
    """Write versions/<n> as the registry would: manifest.json, and the model in onnx/."""
    onnx_folder = write_model(folder / "onnx", tagging=tagging, **options)
    predictor = open_model(onnx_folder, tagging=tagging)
    manifest = {
        "format_version": 1,
        "version": number,
        "created_at": "2030-01-01T00:00:00+00:00",
        "model": model_facts(tagging, predictor.precision, processor),
        "golden": write_golden(predictor),
        "files": describe_files(folder),
    }
    predictor.close()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return onnx_folder


def model_facts(tagging: bool = False, precision: str = "fp32", processor=()) -> dict:
    return {
        "task": "token-classification" if tagging else "text-classification",
        "labels": list((TAGS if tagging else CLASSES).names),
        "max_tokens": 16,
        "temperature": 1.0,
        "precision": precision,
        "processor": list(processor),
        "base": "tiny",
        "pooling": "mean",
    }
