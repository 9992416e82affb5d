"""Tiny ONNX versions for tests of the server: made with onnx.helper, answering by known words."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from contlearn.config import load_config
from contlearn.inference.manifest import describe_files
from contlearn.serving.app import create_app, site_of
from contlearn.serving.http.server import HttpServer, bind
from contlearn.serving.settings import settings_from_config
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.workspace import Workspace, write_json_atomic
from tests.texts import FILLER, TOPICS

LABELS = ("billing", "shipping", "returns", "account")
TAGS = ("O", "B-city", "I-city")


def _tokenizer(folder: Path) -> list[str]:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces += sorted(
        {word for words in TOPICS.values() for word in words}
        | set(FILLER)
        | {"rome", "oslo", "fly", "to"}
    )
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return pieces


def _graph(
    path: Path, pieces: list[str], labels, favoured: str | None, per_word: bool, weight_rows: int
) -> None:
    """Sum the word's scores over the text (or give each word its own), and add a bias."""
    table = np.zeros((len(pieces), len(labels)), dtype=np.float32)
    for row, label in enumerate(labels):
        for word in TOPICS.get(label, ()):
            table[pieces.index(word), row] = 3.0
    if per_word:
        table[:, 0] = 1.0
        for word in ("rome", "oslo"):
            table[pieces.index(word), 1] = 4.0
    bias = np.zeros(len(labels), dtype=np.float32)
    if favoured is not None:
        bias[labels.index(favoured)] = 50.0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["word_scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["word_scores", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["summed"], keepdims=0),
        helper.make_node("Add", ["kept" if per_word else "summed", "bias"], ["logits"]),
        helper.make_node("MatMul", ["summed", "spread"], ["projection"]),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(bias, "bias"),
        numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "middle"),
        numpy_helper.from_array(np.ones((len(labels), 32), dtype=np.float32), "spread"),
    ]
    if weight_rows:  # ballast, for tests of memory
        constants.append(
            numpy_helper.from_array(np.zeros((weight_rows, 1024), dtype=np.float32), "ballast")
        )
        nodes.append(helper.make_node("Gather", ["ballast", "input_ids"], ["unused"]))
    ids = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "l"])
        for n in ("input_ids", "attention_mask")
    ]
    shape = ["b", "l", len(labels)] if per_word else ["b", len(labels)]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("projection", TensorProto.FLOAT, ["b", 32]),
    ]
    graph = helper.make_graph(nodes, "tiny", ids, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_version(
    serving: Path,
    number: int,
    *,
    favoured: str | None = None,
    tagging: bool = False,
    weight_rows: int = 0,
    unknown: dict | None = None,
) -> Path:
    """Write a whole serving copy of a version, as a promotion would."""
    folder = serving / str(number)
    staged = serving / f".staged-{number}"
    staged.mkdir(parents=True)
    labels = TAGS if tagging else LABELS
    _graph(staged / "model.onnx", _tokenizer(staged), labels, favoured, tagging, weight_rows)
    (staged / "config.json").write_text("{}\n", encoding="utf-8")
    manifest = {
        "format_version": 1,
        "version": number,
        "files": {f"onnx/{name}": facts for name, facts in describe_files(staged).items()},
        "model": {
            "task": "token-classification" if tagging else "text-classification",
            "labels": list(labels),
            "max_tokens": 32,
            "temperature": 1.0,
            "precision": "fp32",
            "processor": [],
            **({} if unknown is None else {"unknown": unknown}),
        },
    }
    write_json_atomic(staged / "manifest.json", manifest)
    staged.rename(folder)
    return folder


def point_to(serving: Path, number: int, epoch: int) -> None:
    """Promote: one rename of current.json."""
    digest = hashlib.sha256((serving / str(number) / "manifest.json").read_bytes()).hexdigest()
    write_json_atomic(
        serving / "current.json", {"version": number, "epoch": epoch, "sha256": digest}
    )


def copy_version(serving: Path, source: int, number: int) -> Path:
    """Make another version of the same model quickly."""
    folder = shutil.copytree(serving / str(source), serving / str(number))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["version"] = number
    os.chmod(folder / "manifest.json", 0o644)
    write_json_atomic(folder / "manifest.json", manifest)
    return folder


def make_workspace(
    root: Path, *, name: str = "tickets", task: str = "text-classification", extra: str = ""
) -> Workspace:
    """Make a workspace that can be served."""
    workspace = Workspace(root)
    workspace.make_folders()
    workspace.config_file.write_text(
        f'[model]\nname = "{name}"\ntask = "{task}"\n[serving]\npoll_seconds = 0.05\nport = 0\n{extra}',
        encoding="utf-8",
    )
    (root / "serving" / name).mkdir(parents=True)
    return workspace


@contextlib.contextmanager
def running(*settings, listener=None):
    """Run a real server in a thread, on a free port or where `listener` is; yields the server."""
    app = create_app(*settings)
    server = HttpServer(app, site_of(app), listener or bind("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_until_stopped, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def whole_lines(folder):
    """Give the lines of a server's files; what is being written at this moment is left out."""
    contents = [path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for one in contents for line in one.split(b"\n")[:-1]]


def wait_for(condition, seconds: float = 30.0):
    """Wait until a condition holds, and give its value."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("the condition did not come true in time")


class Tasks:
    """The part of the plugin manager that a server asks."""

    def task(self, name, options=None, *, where):
        return {task.name: task for task in (TextClassification, TokenClassification)}[name]()


def settings_of(workspace: Workspace, **changes):
    """Settings of a workspace, with changes."""
    config = load_config(workspace.root, environ={}).config
    made = settings_from_config(workspace, config, Tasks())
    return dataclasses.replace(made, **changes)
