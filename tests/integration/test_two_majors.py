"""What was made under one major of transformers goes on under the other.

These run in the environment with 4.57 and start programs in the one with 5, which is found by
CONTLEARN_TRAIN5_PYTHON; the Makefile sets it once `make train5` has made that environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import CLASSIFIER
from tests.texts import classified, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.transformers4]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pythons() -> dict[str, str]:
    """The two interpreters, by the major of their transformers."""
    other = os.environ.get("CONTLEARN_TRAIN5_PYTHON")
    if not other:
        pytest.skip("needs the environment with transformers 5: make train5")
    return {"4": sys.executable, "5": other}


def ask(python, *arguments, code=0):
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    end = subprocess.run(
        [python, "-m", *map(str, arguments)],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert end.returncode == code, f"exit {end.returncode}\n{end.stdout}\n{end.stderr}"
    return end.stdout


def test_checkpoints_of_one_major_are_the_same_under_the_other(pythons, tmp_path):
    for major, python in pythons.items():
        ask(python, "tests.majors", "write", tmp_path / f"by-{major}")
    said = {
        major: json.loads(ask(python, "tests.majors", "score", tmp_path).splitlines()[-1])
        for major, python in pythons.items()
    }
    assert set(said["4"]) == set(said["5"])
    assert len(said["4"]) == 12
    for name, rows in said["4"].items():
        for (ids, states), (other_ids, other_states) in zip(rows, said["5"][name], strict=True):
            assert ids == other_ids, name
            np.testing.assert_allclose(states, other_states, atol=2e-5, err_msg=name)


def test_workspace_goes_on_under_the_other_major(pythons, made_workspace, tmp_path):
    root = tmp_path / "ws"
    shutil.copytree(made_workspace, root)

    def run(major, *arguments, code=0):
        command = ("contlearn", "--workspace", root, *arguments, "--json")
        return json.loads(ask(pythons[major], *command, code=code))

    texts = [row["text"] for row in classified(["billing", "shipping", "garden"], 6, seed=9)]
    for number, (major, labels) in enumerate(
        [("4", ["billing", "shipping"]), ("5", ["garden"]), ("4", ["billing"])], start=1
    ):
        write_rows(root / "inbox" / f"{number}.jsonl", classified(labels, 40, seed=number))
        done = run(major, "update")
        assert (done["outcome"], done["version"]) == ("promoted", number)
        made_with = run(major, "show", number)["lineage"]["environment"]["transformers"]
        assert made_with.startswith(f"{major}.")
        answers = {other: run(other, "predict", *texts)["predictions"] for other in pythons}
        for one, two in zip(answers["4"], answers["5"], strict=True):
            assert one["label"] == two["label"]
            assert one["confidence"] == pytest.approx(two["confidence"], abs=1e-5)
    report = (root / "versions" / "2" / "manifest.json").read_text(encoding="utf-8")
    assert "not loaded with optimum" in report
    # optimum loads what was exported without it.
    code = (
        "import sys; from optimum.onnxruntime import ORTModelForSequenceClassification as M\n"
        "print(M.from_pretrained(sys.argv[1]).config.num_labels)"
    )
    folder = root / "versions" / "2" / "onnx"
    end = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True)
    assert int(end.stdout) == 3
    # And each exports the other's version again.
    for major, version in (("4", 2), ("5", 3)):
        again = run(major, "export", version, tmp_path / f"out{major}", "--precision", "fp16")
        assert again["parity"]["label_agreement"] >= 0.99


def test_what_needs_the_older_major_is_refused_under_the_newer(pythons, made_workspace, tmp_path):
    root = tmp_path / "ws"
    shutil.copytree(made_workspace, root)
    text = (root / "contlearn.toml").read_text(encoding="utf-8")
    base = text.partition('base = "')[2].partition('"')[0]
    method = CLASSIFIER.replace("[training]", '[training]\nmethod = "bottleneck"')
    (root / "contlearn.toml").write_text(method.format(base=base), encoding="utf-8")
    write_rows(root / "inbox" / "1.jsonl", classified(["billing", "shipping"], 40, seed=1))
    command = ("contlearn", "--workspace", root, "update", "--json")
    said = json.loads(ask(pythons["5"], *command, code=2))["error"]
    assert "does not work with transformers 5." in said["error"]
    assert "transformers 4.57" in said["hint"]
    assert json.loads(ask(pythons["4"], *command))["outcome"] == "promoted"
    write_rows(root / "inbox" / "2.jsonl", classified(["garden"], 40, seed=2))
    said = json.loads(ask(pythons["5"], *command, code=2))["error"]
    assert "Bottleneck adapters need the library `adapters`" in said["error"]
    # What is served needs no library.
    asked = ask(pythons["5"], *command[:3], "predict", "the invoice is wrong", "--json")
    assert json.loads(asked)["predictions"][0]["label"] in ("billing", "shipping")
