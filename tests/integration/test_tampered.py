"""A file of a version that is not as it was written is refused by every command, by its name."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from contlearn.cli import main
from contlearn.config import load_config
from contlearn.inference.golden import write_golden
from contlearn.registry.promotion import promote
from contlearn.registry.versions import Registry
from contlearn.workspace import Workspace
from tests.unit.inference.tiny import model_facts, open_model, write_model

CONFIG = """
[model]
name = "films"
[serving]
port = {port}
[monitoring]
port = 0
"""


@pytest.fixture
def workspace(tmp_path):
    """Two real versions with a tiny model of ours, the second one served."""
    made = Workspace(tmp_path / "ws")
    made.make_folders()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made.config_file.write_text(CONFIG.format(port=free.getsockname()[1]))
    registry = Registry(made, load_config(made.root).config)
    for number in (1, 2):
        staged = made.cycles / f"c{number}" / "version"
        folder = write_model(staged / "onnx", seed=number)
        predictor = open_model(folder)
        facts = {
            "model": model_facts(),
            "golden": write_golden(predictor),
            "lineage": {"experiences": []},
            "metrics": {},
        }
        predictor.close()
        (staged / "decision.json").write_text(json.dumps({"promoted": True, "outcomes": []}))
        registry.register(staged, cycle_id=f"c{number}", parent=None, facts=facts)
        promote(registry, number, actor="ada", reason="first")
    return made


def tamper(path, how, elsewhere):
    for folder in (path.parent.parent, path.parent):
        folder.chmod(0o755)
    path.chmod(0o644)
    data = path.read_bytes()
    if how == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "truncated":
        path.write_bytes(data[:-1])
    elif how == "linked":
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    elif how == "hard-linked":
        os.link(path, elsewhere)
    else:
        path.unlink()


def program(workspace, capsys, *arguments):
    """Run a command in this process; give its exit code and what it said."""
    with pytest.raises(SystemExit) as caught:
        main(["--workspace", str(workspace.root), *arguments])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out + said.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("changed", "model.onnx"),
        ("truncated", "model.onnx"),
        ("linked", "tokenizer.json"),
        ("hard-linked", "model.onnx"),
        ("missing", "tokenizer.json"),
    ],
)
def test_file_that_is_not_as_written_is_refused_by_name(workspace, tmp_path, capsys, how, name):
    for number in (1, 2):
        path = workspace.versions / str(number) / "onnx" / name
        tamper(path, how, tmp_path / f"elsewhere-{number}")
    before = (workspace.root / "serving/films/current.json").read_bytes()
    for arguments in (
        ("verify", "1"),
        ("predict", "--version", "1", "a fine film"),
        ("predict", "a fine film"),
        ("promote", "1", "--force", "--reason", "a test"),
        ("rollback",),
        ("export", "1", str(tmp_path / "out")),
    ):
        code, said = program(workspace, capsys, *arguments)
        assert code == 1, (arguments, said)
        assert name in said, arguments
    assert (workspace.root / "serving/films/current.json").read_bytes() == before
    assert not (tmp_path / "out").exists()
    tamper(workspace.root / "serving/films/2" / name, how, tmp_path / "elsewhere-served")
    assert name in program(workspace, capsys, "verify")[1].partition("serving directory")[2]
    command = [sys.executable, "-m", "contlearn", "--workspace", str(workspace.root), "serve"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            said = next((line for line in server.stdout if "stays out" in line), "")
        finally:
            server.terminate()
            server.stdout.read()
    assert name in said, said
