"""From a file in the inbox to a served champion, and back: the real program, a tiny model."""

from __future__ import annotations

import fcntl
import json
import shutil

import numpy as np
import pytest

from tests.texts import classified, tagged, write_rows

pytestmark = pytest.mark.slow


def test_classification_from_inbox_to_rollback(program, tmp_path):
    first, second = ["billing", "shipping", "returns"], ["account", "garden", "music"]
    program.drop("first.jsonl", classified(first, 40))
    one = program.json("update")
    assert (one["outcome"], one["version"]) == ("promoted", 1), one["reasons"]
    assert one["metrics"]["forgetting"] is None
    assert {r["rule"] for r in one["reasons"]} >= {"floor", "no-regression", "gain"}

    # New labels grow the head; what was known is still known.
    program.drop("second.jsonl", classified(second, 40, seed=1))
    two = program.json("update")
    assert (two["outcome"], two["version"]) == ("promoted", 2), two["reasons"]
    assert two["metrics"]["average_accuracy"] > 0.6
    assert two["metrics"]["forgetting"] is not None
    labels = json.loads((program.root / "versions/2/manifest.json").read_bytes())["model"]["labels"]
    assert labels == sorted(first) + sorted(second)

    # Nothing is learnt twice.
    program.drop("again.jsonl", classified(second, 40, seed=1))
    assert program.json("update")["outcome"] == "nothing-to-do"

    status = program.json("status")
    assert status["champion"]["version"] == 2
    assert (status["experiences"], status["versions"], status["pending_records"]) == (2, 2, 0)

    evaluation = program.json("evaluate")
    assert evaluation["metrics"] == pytest.approx(two["metrics"])
    matrix = evaluation["accuracy_matrix"]
    assert len(matrix) == 2
    assert len(evaluation["per_label"]) == 6
    held_out = write_rows(tmp_path / "own.jsonl", classified(first, 10, seed=5))
    assert set(program.json("evaluate", "--on", held_out)["metrics"]) >= {"accuracy", "macro_f1"}

    answers = program.json("predict", "please help with my invoice refund", "rose and hedge")
    assert answers["version"] == 2
    assert all(abs(sum(p["scores"].values()) - 1) < 1e-6 for p in answers["predictions"])
    assert program.json("predict", "--version", 1, "x")["version"] == 1

    # A batch with shuffled labels is refused, tried once more, then held.
    poisoned = classified([*first, *second], 20, seed=7)
    rotated = [r["label"] for r in poisoned[7:] + poisoned[:7]]
    program.drop(
        "bad.jsonl", [{**r, "label": other} for r, other in zip(poisoned, rotated, strict=True)]
    )
    for _ in range(2):
        refused = program.json("update", code=3)
        assert refused["outcome"] == "refused"
        assert any(r["passed"] is False for r in refused["reasons"])
    status = program.json("status")
    assert status["champion"]["version"] == 2
    assert status["pending_records"] == 0
    assert status["held_records"] > 0

    # A refused version needs --force; rollback goes back, and further back is said to be impossible.
    assert "refused" in program.json("promote", refused["version"], code=1)["error"]
    back = program.json("rollback", "--hold-records", "--reason", "a test")
    assert (back["champion"], back["previous"]) == (1, 2)
    assert back["records_held"] > 0
    assert program.json("predict", "x")["version"] == 1
    assert "no former champion" in program.json("rollback", code=1)["error"]
    forward = program.json("promote", 2)
    assert forward["champion"] == 2
    assert program.json("status")["learnt_records"] > back["records_held"]
    assert program.json("verify")["ok"] is True

    # Versions have names, and two of them can be compared.
    assert program.json("alias", "set", "audited", 1)["previous"] is None
    assert program.json("show", "audited")["version"] == 1
    assert program.json("predict", "--version", "previous", "x")["version"] == 1
    assert program.json("alias", "list")["aliases"] == {"audited": 1}
    assert "no alias" in program.json("show", "audit", code=1)["error"]
    changed = program.json("diff", "audited", "champion", "--examples", 3)
    assert changed["labels"] == {"added": sorted(second), "removed": []}
    assert changed["metrics"]["accuracy"]["b"] == pytest.approx(two["metrics"]["accuracy"])
    assert changed["configuration"] == {}
    assert changed["flips"]["fixed"] > 0
    assert all(flip["text"] and flip["a"] != flip["b"] for flip in changed["flips"]["examples"])
    assert all(flip["target"] == flip["b"] for flip in changed["flips"]["examples"][:3])
    assert "Labels added: account, garden, music" in program.run("diff", 1, 2)
    assert "Both are version 2" in program.json("diff", 2, "champion", code=2)["error"]
    live = program.json("history", "--at", "now")
    assert (live["live"], live["until"], live["aliases"]) == (2, None, {"audited": 1})
    assert program.json("history", "--at", "1d")["live"] is None
    assert "still to come" in program.json("history", "--at", "2999-01-01", code=2)["error"]

    history = program.json("history")
    assert [e["event"] for e in history["events"]].count("rollback") == 1
    shown = program.json("show", 2)
    assert shown["lineage"]["parent"] == 1


def test_exported_folder_loads_with_optimum_and_onnxruntime_and_answers_alike(promoted, tmp_path):
    program = promoted
    texts = [row["text"] for row in classified(["billing", "shipping", "garden"], 8, seed=3)]
    ours = [p["label"] for p in program.json("predict", *texts)["predictions"]]
    folder = tmp_path / "out"
    exported = program.json("export", folder)
    assert exported["version"] == 2
    assert "model.onnx" in exported["files"]
    assert len([n for n in exported["files"] if n.endswith(".onnx")]) == 1

    import onnxruntime
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    for place in (folder, program.root / "serving/tickets/current"):
        model = ORTModelForSequenceClassification.from_pretrained(place)
        tokenizer = AutoTokenizer.from_pretrained(place)
        session = onnxruntime.InferenceSession(str(place / "model.onnx"))
        names = {i.name for i in session.get_inputs()}
        for text, label in zip(texts, ours, strict=True):
            encoded = tokenizer(text, return_tensors="pt")
            assert model.config.id2label[int(model(**encoded).logits.argmax())] == label
            feed = {k: v.numpy() for k, v in encoded.items() if k in names}
            logits = session.run(["logits"], feed)[0]
            assert model.config.id2label[int(np.argmax(logits))] == label

    # Triton's own types read the description, and its file is where it says and is the same.
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(
        (folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    (number,) = config.version_policy.specific.versions
    file = folder / str(number) / config.default_model_filename
    assert file.read_bytes() == (folder / "model.onnx").read_bytes()
    assert {item.name for item in config.input} == {i.name for i in session.get_inputs()}
    assert [(o.name, list(o.dims)) for o in config.output] == [
        (o.name, o.shape[1:]) for o in session.get_outputs()
    ]
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert parameters["max_tokens"] == "32"

    # Another precision is made from the checkpoint, and the folder says what it is.
    half = program.json("export", "champion", tmp_path / "half", "--precision", "fp16")
    assert half["parity"]["label_agreement"] >= 0.99
    checked = program.check(tmp_path / "half")
    assert (checked["ok"], checked["precision"]) == (True, "fp16")
    assert not list(tmp_path.glob(".*"))
    for arguments in (("export", 1, folder), ("export", 1, folder / "model.onnx")):
        assert "is not" in program.json(*arguments, code=2)["error"]
    for impossible in (folder / "model.onnx" / "below", tmp_path / ("n" * 250), "n" * 300):
        assert (
            "Nothing can be written there" in program.json("export", 1, impossible, code=2)["error"]
        )

    # What is killed on the way leaves a place that the next one takes over, and clears away.
    again = ("export", 1, tmp_path / "again", "--precision", "fp16")
    place = tmp_path / ".again.contlearn-export"
    with program.popen(*again) as process:
        while not (place / "lock").exists():
            assert process.poll() is None
        process.kill()
    assert not (tmp_path / "again").exists()
    with (place / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = program.json(*again, code=4)
        assert "exporting to" in refused["error"]
        assert "another folder" in refused["hint"]
    assert program.json(*again)["parity"]["label_agreement"] >= 0.99
    assert not list(tmp_path.glob(".*"))


def test_entities_from_inbox_to_prediction(program, tiny_model):
    text = (program.root / "contlearn.toml").read_text()
    changes = {
        "text-classification": "token-classification",
        "epochs = 2": "epochs = 20\nhead_learning_rate = 1e-2\nearly_stopping_patience = 0",
        "learning_rate = 1e-3": "learning_rate = 2e-3",
        "margin = 0.2": "margin = 0.6",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    program.configure(text, tiny_model)
    program.drop("cities.jsonl", tagged(["city"], 160))
    one = program.json("update")
    assert one["outcome"] == "promoted", one
    assert set(one["metrics"]) >= {"precision", "recall", "f1", "average_accuracy", "forgetting"}
    program.drop("artists.jsonl", tagged(["artist", "city"], 160, seed=1))
    two = program.json("update")
    assert two["outcome"] == "promoted", two
    sentence = "please fly to Rome today"
    found = program.json("predict", sentence)["predictions"][0]["entities"]
    assert all(sentence[e["start"] : e["end"]] == e["text"] for e in found)
    labels = json.loads((program.root / "versions/2/manifest.json").read_bytes())["model"]["labels"]
    assert labels == ["O", "B-city", "I-city", "B-artist", "I-artist"]


def test_manual_approval_waits_and_is_given(program):
    with (program.root / "contlearn.toml").open("a") as file:
        file.write('approval = "manual"\n')
    program.drop("first.jsonl", classified(["billing", "shipping"], 40))
    waiting = program.json("update")
    assert waiting["outcome"] == "awaiting-approval"
    assert program.json("status")["champion"] is None
    assert program.json("status")["awaiting_approval"] == 1
    assert program.json("promote", 1, "--dry-run")["champion"] is None
    assert program.json("promote", 1, "--reason", "looks good")["champion"] == 1
    status = program.json("status")
    assert (status["awaiting_approval"], status["pending_records"]) == (None, 0)


def test_no_promote_registers_and_leaves_the_records_pending(program):
    program.drop("first.jsonl", classified(["billing", "shipping"], 40))
    assert program.json("update", "--no-promote")["outcome"] == "not-promoted"
    status = program.json("status")
    assert status["champion"] is None
    assert status["pending_records"] > 0
    assert status["versions"] == 1


def test_tampered_version_is_refused_by_name(promoted):
    program = promoted
    for path in (
        program.root / "versions/1",
        program.root / "versions/1/onnx",
        program.root / "versions/1/onnx/model.onnx",
    ):
        path.chmod(0o755)
    model = program.root / "versions/1/onnx/model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    assert "model.onnx" in json.dumps(program.json("verify", code=1))
    for arguments in (
        ("promote", 1, "--force", "--reason", "a test"),
        ("rollback",),
        ("predict", "--version", 1, "x"),
    ):
        error = program.json(*arguments, code=1)
        assert "model.onnx" in error["error"], arguments
        assert error["hint"]
    assert program.json("status")["champion"]["version"] == 2
    shutil.rmtree(program.root / "serving" / "tickets" / "1", ignore_errors=True)


def test_first_update_lists_the_labels_in_doubt_until_they_are_forgotten(program):
    labels = ["billing", "garden", "music"]
    rows = classified(labels, 60)
    wrong = {}
    for row in rows[::12]:
        wrong[row["text"]] = row["label"]
        row["label"] = labels[(labels.index(row["label"]) + 1) % 3]
    program.drop("first.jsonl", rows)
    assert program.json("update")["outcome"] == "promoted"
    found = program.json("data", "suspects", "--cycle", "last", "--limit", 100)
    assert found["looked_at"] == len(rows)
    listed = {one["text"]: one for one in found["suspects"]}
    assert len(listed.keys() & wrong.keys()) >= 0.7 * len(wrong)
    assert "cross-validation" in {one["judge"] for one in listed.values()}
    for text in listed.keys() & wrong.keys():
        assert listed[text]["suggested"] == wrong[text]
    one = found["suspects"][0]
    assert one["text"][:30] in program.run("data", "suspects", "--cycle", "last")
    program.json("data", "forget", one["record_id"])
    after = program.json("data", "suspects", "--cycle", "last", "--limit", 100)["suspects"]
    assert one["record_id"] not in {other["record_id"] for other in after}
    assert len(after) == len(found["suspects"]) - 1
