"""What may import what, and that looking costs little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "avalanche", "pyarrow", "onnxruntime"}
ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    """Give the top-level modules that a fresh interpreter has loaded after a statement."""
    code = (
        f"import sys\ntry:\n    {statement}\nexcept SystemExit as end:\n    if end.code:\n"
        "        raise RuntimeError(end.code)\n"
        "sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.split(".")[0] for name in end.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["update", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    loaded = modules_after(f"from contlearn.cli import main; main({arguments!r})")
    assert not loaded & (HEAVY | {"sqlalchemy", "numpy", "rich"})


def test_importing_the_package_loads_nothing():
    assert not modules_after("import contlearn") & (HEAVY | {"sqlalchemy", "pydantic", "click"})


@pytest.mark.parametrize("command", ["status", "history", "data list"])
def test_looking_loads_nothing_heavy(command, workspace):
    arguments = ["--workspace", str(workspace.root), *command.split()]
    loaded = modules_after(f"from contlearn.cli import main; main({arguments!r})")
    assert not loaded & HEAVY


def test_daemon_loads_nothing_heavy():
    assert not modules_after("import contlearn.daemon") & (HEAVY | {"numpy"})


def test_update_parent_loads_nothing_heavy(workspace):
    arguments = ["--workspace", str(workspace.root), "update"]
    loaded = modules_after(f"from contlearn.cli import main; main({arguments!r})")
    assert not loaded & HEAVY


def test_server_application_loads_no_torch():
    loaded = modules_after("import contlearn.serving.app")
    assert not loaded & {"torch", "transformers", "avalanche"}


def test_no_assert_outside_tests():
    import ast

    for path in (ROOT / "contlearn").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not asserts, f"{path}: lines {asserts}"


def test_no_pickle_is_loaded():
    for path in (ROOT / "contlearn").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("import pickle", "import dill", "torch.load(", "joblib.load", "np.load("):
            assert word not in text, f"{path} uses {word}"
