"""A task from outside, installed as a plugin, goes through the whole loop and is served."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

import contlearn
from contlearn.client import Client
from contlearn.config import load_config
from contlearn.plugins.manager import PluginManager
from contlearn.serving.http.tokens import Tokens
from contlearn.serving.settings import settings_from_config
from contlearn.workspace import Workspace
from tests.integration.conftest import CLASSIFIER, Program
from tests.served import running, wait_for
from tests.texts import TOPICS, classified, write_rows

pytestmark = pytest.mark.slow
TOKEN = "t" * 32
STARS = {topic: number for number, topic in enumerate(list(TOPICS)[:5], 1)}
CONFIG = (
    CLASSIFIER.replace('"text-classification"', '"ratings"')
    .replace("margin = 0.2", "margin = 1.0")
    .replace("epochs = 2", "epochs = 15")
    .replace("learning_rate = 1e-3", "learning_rate = 3e-3")
)


class Loose(Program):
    """The program with a folder of loose plugins before every command."""

    def __init__(self, root, folder):
        super().__init__(root)
        self.folder = folder

    def run(self, *arguments, code=0):
        with self.popen("--plugins-dir", self.folder, *arguments) as process:
            out, err = process.communicate(timeout=280)
        assert code in (None, process.returncode), f"exit {process.returncode}\n{out}\n{err}"
        return out


def rated(topics, per_topic, seed=0):
    rows = classified(topics, per_topic, seed=seed)
    return [{"text": row["text"], "rating": STARS[row["label"]]} for row in rows]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, tiny_model):
    """A workspace of ratings with two promotions: of low ratings, then of all."""
    program = Program(tmp_path_factory.mktemp("ratings") / "ws")
    program.run("init", program.root, "--task", "ratings", "--base", str(tiny_model))
    written = (program.root / "contlearn.toml").read_text()
    assert "Rows also hold 'rating'" in written
    program.configure(CONFIG, tiny_model)
    topics = list(STARS)
    program.drop("first.jsonl", rated(topics[:3], 40))
    program.first = program.json("update")
    sheet = "text,rating\n" + "".join(
        f"{row['text']},{row['rating']}\n" for row in rated(topics[2:], 40, seed=1)
    )
    (program.root / "inbox" / "second.csv").write_text(sheet)
    program.second = program.json("update")
    return program


def test_both_updates_are_promoted_by_the_measure_of_the_task(learnt):
    for update, version in ((learnt.first, 1), (learnt.second, 2)):
        assert (update["outcome"], update["version"]) == ("promoted", version), update["reasons"]
    metrics = learnt.second["metrics"]
    assert metrics["mean_distance"] < 1.0
    assert metrics["average_accuracy"] == pytest.approx(metrics["average_accuracy"])
    (gain,) = [r for r in learnt.second["reasons"] if r["rule"] == "gain"]
    assert "points" in gain["message"]
    assert "less is better" in gain["message"]
    (floor,) = [r for r in learnt.first["reasons"] if r["rule"] == "floor"]
    assert floor["measured"] < floor["required"], "less distance than the middle rating"


def test_manifest_and_report_say_what_the_measure_is(learnt):
    folder = learnt.root / "versions/2"
    model = json.loads((folder / "manifest.json").read_bytes())["model"]
    assert (model["task"], model["labels"]) == ("ratings", [f"at least {n}" for n in range(2, 6)])
    report = json.loads((folder / "report.json").read_bytes())
    assert report["measures"] == {"mean_distance": {"unit": "points", "higher_is_better": False}}
    assert report["per_label"] == []
    page = (learnt.root / "reports/2.html").read_text()
    assert "points" in page
    assert "points" in learnt.run("evaluate")


def test_predictions_are_numbers_everywhere(learnt):
    texts = [row["text"] for row in rated(list(STARS), 4, seed=9)]
    answers = learnt.json("predict", *texts)["predictions"]
    assert all(set(a) == {"rating", "confidence", "expected"} for a in answers)
    shown = learnt.run("predict", texts[0])
    assert "rating" in shown
    assert "expected" in shown


def test_wrong_rows_are_refused_with_what_to_do(learnt, tmp_path):
    rows = [{"text": "a room", "rating": 9}, {"text": "a bed"}, {"rating": 2}]
    report = learnt.json("ingest", write_rows(tmp_path / "wrong.jsonl", rows), "--dry-run", code=1)
    said = json.dumps(report)
    assert "no whole number from 1 to 5" in said
    assert "'rating' is missing" in said


def test_conflicting_ratings_of_a_text_are_told(learnt, tmp_path):
    rows = [{"text": "one same room", "rating": 2}, {"text": "one same room", "rating": 5}]
    path = write_rows(tmp_path / "conflict.jsonl", rows)
    said = json.dumps(learnt.json("ingest", path, "--dry-run", code=1))
    assert "conflict" in said


def test_server_answers_json_and_tensors_and_takes_feedback(learnt):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    texts = [row["text"] for row in rated(list(STARS), 2, seed=11)]
    workspace = Workspace(learnt.root)
    config = load_config(workspace.root, environ={}).config
    made = settings_from_config(workspace, config, PluginManager())
    settings = dataclasses.replace(made, tokens=Tokens({"feedback": [TOKEN]}))
    with running(settings) as server:
        wait_for(lambda: server.site.is_ready)
        with Client(server.address, token=TOKEN) as client:
            answer = client.predict(texts)
            ratings = [item.value["rating"] for item in answer.predictions]
            assert {type(rating) for rating in ratings} == {int}
            assert client.feedback(answer.request_id, 4, index=0).accepted == 1
            with pytest.raises(Exception, match="no whole number from 1 to 5"):
                client.feedback(answer.request_id, 7, index=1)
        url = server.address.removeprefix("http://")
        with triton.InferenceServerClient(url) as client:
            outputs = client.get_model_metadata("tickets")["outputs"]
            assert [(o["name"], o["datatype"]) for o in outputs] == [
                ("rating", "INT64"),
                ("confidence", "FP32"),
                ("expected", "FP32"),
            ]
            tensor = triton.InferInput("text", [len(texts)], "BYTES")
            tensor.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_))
            found = client.infer("tickets", [tensor])
            assert found.as_numpy("rating").tolist() == ratings
            assert found.as_numpy("expected").dtype == np.float32
        schema = httpx.get(f"{server.address}/openapi.json").json()
        assert "rating" in json.dumps(schema["components"]["schemas"]["Predictions"])
    (row,) = (learnt.root / "inbox").glob("feedback-*.jsonl")
    assert json.loads(row.read_text())["rating"] == 4
    row.unlink()


def test_suggestions_go_out_and_come_back(learnt, tmp_path):
    source = tmp_path / "texts.txt"
    source.write_text("".join(row["text"] + "\n" for row in rated(list(STARS), 3, seed=21)))
    out = tmp_path / "out.jsonl"
    learnt.run("suggest", "--from", source, "--count", 4, "--output", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["rating"] for row in rows] == [None] * 4
    untouched = learnt.json("ingest", out, "--dry-run", code=1)
    assert "not-answered" in json.dumps(untouched)
    answered = tmp_path / "answered.jsonl"
    write_rows(answered, [{**row, "rating": 3} for row in rows])
    assert learnt.json("ingest", answered, "--dry-run")["accepted"] == 4
    assert "cannot hold answers of the task 'ratings'" in learnt.run(
        "suggest", "--from", source, "--format", "prodigy", "--output", out, "--json", code=2
    )


def test_what_needs_classes_is_refused_when_the_configuration_is_read(learnt):
    before = (learnt.root / "contlearn.toml").read_text()
    try:
        for line, missing in (
            ('strategy = "icarl"', "class-sums"),
            ('regularizers = [{ name = "lwf" }]', "classes"),
        ):
            changed = before.replace("[training]\n", f"[training]\n{line}\n")
            (learnt.root / "contlearn.toml").write_text(changed)
            assert f"needs {missing}" in learnt.json("status", code=2)["error"]
    finally:
        (learnt.root / "contlearn.toml").write_text(before)


def test_forgetting_rolling_back_and_verifying_work(learnt):
    assert learnt.json("rollback")["champion"] == 1
    assert learnt.json("promote", 2)["champion"] == 2
    assert learnt.json("verify")["ok"] is True
    record = learnt.json("data", "list", "--limit", 1)["records"][0]
    assert learnt.json("data", "forget", record["record_id"])["forgotten"] == 1


def test_task_of_a_loose_file_is_known_to_every_child(tmp_path, made_workspace):
    """The example of the page, never installed: learnt, tried before it is served, and promoted."""
    page = (Path(contlearn.__file__).parents[1] / "docs/tasks.md").read_text(encoding="utf-8")
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Urgency" in b]
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "urgency.py").write_text(code, encoding="utf-8")
    shutil.copytree(made_workspace, tmp_path / "ws")
    program = Loose(tmp_path / "ws", loose)
    config = program.root / "contlearn.toml"
    config.write_text(config.read_text().replace('"text-classification"', '"urgency"'))
    rows = [{"text": r["text"], "urgency": 2.0 * r["rating"]} for r in rated(list(STARS), 12)]
    program.drop("rows.jsonl", rows)
    update = program.json("update", code=None)
    assert update["version"] == 1, update
    if update["outcome"] == "refused":
        assert program.json("promote", 1, "--force", "--reason", "a test")["champion"] == 1
    (answer,) = program.json("predict", "my rose and lawn")["predictions"]
    assert 0.0 <= answer["urgency"] <= 10.0
