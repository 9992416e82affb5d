"""What is said of packages: the major of transformers, the driver of the catalog."""

import json
import sys

import pytest

from contlearn.operations import doctor


@pytest.mark.parametrize(
    ("installed", "ok", "said"),
    [
        ({}, None, "not installed"),
        ({"transformers": "4.57.6", "optimum-onnx": "0.1.0"}, True, "4.57.6 (as [train])"),
        ({"transformers": "5.24.0"}, True, "5.24.0 (as [train5]): no bottleneck adapters"),
        ({"transformers": "5.24.0", "adapters": "1.3.0"}, False, "beside adapters, which need"),
        ({"transformers": "4.60.0"}, False, "4.60.0"),
    ],
)
def test_doctor_says_which_major_is_in_use(monkeypatch, tmp_path, installed, ok, said):
    monkeypatch.setattr(doctor, "_found", installed.get)
    checks = {check.name: check for check in doctor.examine(tmp_path)}
    found = checks["transformers version"]
    assert found.ok is ok
    assert said in found.found
    # Under 5 nobody is told to install what needs 4.57.
    is_five = installed.get("transformers", "").startswith("5.")
    assert ("optimum-onnx" in checks) == (not is_five)


def test_doctor_says_that_the_driver_of_the_catalog_does_not_load(workspace, tmp_path, monkeypatch):
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    with workspace.config_file.open("a") as file:
        file.write('[storage]\ncatalog = "postgresql+psycopg://ada@nowhere/db"\n')
    (check,) = [c for c in doctor.examine_workspace(workspace.root) if c.ok is False]
    assert "no pq wrapper available" in check.found
    assert "contlearn[postgres]" in check.hint


@pytest.mark.parametrize(
    ("config", "ok", "said"),
    [
        ({"model_type": "gpt2"}, False, "of the family 'gpt2', and it reads a text from left"),
        ({"model_type": "bert"}, None, "was not tried, because its weights"),
    ],
)
def test_doctor_tries_the_base_model(workspace, tmp_path, config, ok, said):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(config))
    workspace.config_file.write_text(f'[model]\nname = "test"\nbase = "{base}"\n')
    checks = {check.name: check for check in doctor.examine_workspace(workspace.root)}
    assert checks["base model"].ok is ok
    assert said in checks["base model"].found
