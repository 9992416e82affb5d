"""When a child is started to look at the inbox, and when nothing there is worth one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contlearn.cycle.scanning import scan_in_child
from contlearn.cycle.update_cycle import UpdateCycle
from tests.scripted import ScriptedContext, drop, make_workspace

ROOT = Path(__file__).parents[3]
LOOK = """
import json, sys
from pathlib import Path
from contlearn.context import Context
from contlearn.cycle.scanning import scan_in_child
from tests.scripted import drop

with Context.open(Path(sys.argv[1])) as context:
    told, found = {}, []
    def look():
        report = scan_in_child(context, told=told)
        found.append([file["reason"] for file in report.get("files", ())] if report else None)
    look(), look()
    drop(context.workspace, "calm", 3)
    look(), look()
    context.workspace.inbox.joinpath("shut.jsonl").chmod(0o600)
    context.workspace.inbox.joinpath("shut.jsonl").write_text("")
    context.workspace.inbox.joinpath("shut.jsonl").chmod(0)
    look(), look()
    context.workspace.inbox.joinpath("shut.jsonl").chmod(0o600)
    look(), look()
    print(json.dumps(found))
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return make_workspace(tmp_path / "ws")


def started(workspace) -> bool:
    """Say whether a child has run: it has a log."""
    return (workspace.state / "ingest.log").exists()


@pytest.mark.parametrize(
    "name", ["old.jsonl.ready", "new.jsonl.part", "new.tmp", ".hidden"], ids=str
)
def test_what_is_no_file_of_ours_wakes_nobody(workspace, name):
    (workspace.inbox / name).touch()
    with ScriptedContext.open(workspace.root) as context:
        assert scan_in_child(context) == {}
        assert not started(workspace)
        result = UpdateCycle(context, child="tests.scripted_child").run_once(dry_run=True)
    assert "files of the inbox" not in result.message


def test_a_dry_run_counts_files_without_their_markers(workspace):
    drop(workspace, "calm", 3, name="new.jsonl")
    (workspace.inbox / "new.jsonl.ready").touch()
    with ScriptedContext.open(workspace.root) as context:
        result = UpdateCycle(context, child="tests.scripted_child").run_once(dry_run=True)
    assert "1 files of the inbox would be taken in" in result.message


def test_a_file_that_cannot_be_read_wakes_once_until_it_changes(workspace):
    shut = workspace.inbox / "shut.jsonl"
    shut.write_text(json.dumps({"text": "a text", "label": "calm"}) + "\n")
    shut.chmod(0)
    command = [sys.executable, "-c", LOOK, str(workspace.root)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("nothing is forbidden to root (setpriv is in Debian's util-linux)")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [
        ["unreadable"],
        None,
        [None, "unreadable"],  # another file came
        None,
        ["unreadable"],  # it changed
        None,
        ["empty-file"],  # it can be read
        None,
    ]
