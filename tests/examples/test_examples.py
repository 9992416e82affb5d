"""Every example runs, with the tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def test_every_example_is_run_by_a_test():
    tests = "".join(path.read_text("utf-8") for path in EXAMPLES.parent.glob("tests/**/test_*.py"))
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names
    assert [name for name in names if f'"{name}"' not in tests] == []


def test_search_settings(tmp_path, tiny_model):
    command = [sys.executable, str(EXAMPLES / "search_settings.py"), str(tmp_path / "ws")]
    done = subprocess.run(
        [*command, str(tiny_model)], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("batch 1: 3 trials began with {'learning_rate': 5e-05")
    # The second search begins where the first one ended.
    assert lines[1].split("winner is ")[1] == lines[2].split("began with ")[1]
    # The winner goes with the version, and into its report.
    for number, line in ((1, lines[1]), (2, lines[3])):
        folder = tmp_path / "ws" / "versions" / str(number)
        lineage = json.loads((folder / "manifest.json").read_text("utf-8"))["lineage"]
        assert str(lineage["search"]) == line.split("winner is ")[1]
        assert "settings that won the search" in (folder / "report.html").read_text("utf-8")


def test_main_loop(tmp_path, tiny_model):
    command = [sys.executable, str(EXAMPLES / "main_loop.py"), str(tmp_path / "ws")]
    done = subprocess.run(
        [*command, str(tiny_model)], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "batch 1: 108 records, promoted" in done.stdout
    assert "batch 2: 54 records, promoted" in done.stdout
    assert "prediction: " in done.stdout
    assert "rolled back from version 2 to 1" in done.stdout
