"""A used workspace with a real model: copied in the middle of an update, it goes on by itself."""

from __future__ import annotations

import hashlib
import shutil
import signal

import pytest

from tests.integration.test_kills import arm
from tests.texts import classified

pytestmark = pytest.mark.slow


def contents(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_copy_goes_on_by_itself_and_no_file_says_where_it_was(program, tmp_path):
    program.drop("a.jsonl", [*classified(["billing", "shipping"], 40), {"text": "no label"}])
    program.run("update")
    program.run("report", "--all")
    program.run("export", tmp_path / "exported")
    program.drop("b.jsonl", classified(["garden"], 40, seed=1))
    plugins = arm(program, tmp_path, "cycle-state:evaluating")
    program.run("--plugins-dir", plugins, "update", code=-signal.SIGKILL)
    place = str(program.root).encode()
    for folder in (program.root, tmp_path / "exported"):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert [path for path in files if place in path.read_bytes()] == []
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(program.root, copy, symlinks=True)
    before = contents(program.root)
    original, program.root = program.root, copy
    done = program.json("update")
    assert (done["outcome"], done["version"]) == ("promoted", 2)
    assert program.json("status")["champion"]["version"] == 2
    assert program.json("verify")["ok"]
    assert contents(original) == before
