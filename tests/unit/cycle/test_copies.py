"""A workspace that is copied or moved: nothing in it points back to where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.data.selection import Selection, select_records
from contlearn.operations.records import hold
from contlearn.operations.report import report_all
from contlearn.processes.children import ChildStopped
from contlearn.registry.aliases import set_alias
from tests.scripted import ScriptedContext, drop, make_workspace, open_watch, scan_here


class StopAtOnce:
    """Stops an update as soon as its child has begun."""

    def __init__(self) -> None:
        self.begun = False

    def hear(self, stage: str, *_) -> None:
        self.begun = self.begun or stage == "training"

    def is_set(self) -> bool:
        return self.begun


def update(context, **options):
    return UpdateCycle(context, child="tests.scripted_child", scan=scan_here, **options).run_once()


def naming(root: Path) -> list[str]:
    """List the files below a folder that say where it is."""
    place = str(root).encode()
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and place in path.read_bytes()
    )


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def used(tmp_path, monkeypatch):
    """A workspace that has seen everything, with an update that was interrupted."""
    plugins = tmp_path / "unmistakable" / "plugins"
    plugins.mkdir(parents=True)
    workspace = make_workspace(tmp_path / "unmistakable")
    drop(workspace, "calm")
    (workspace.inbox / "bad.jsonl").write_text('{"text": "no label"}\n', encoding="utf-8")
    (workspace.inbox / "broken.parquet").write_bytes(b"PAR1 no table")
    watch = open_watch(workspace)
    assert watch.step().outcome == "promoted"
    with ScriptedContext.open(workspace.root, plugins_dir=plugins) as context:
        set_alias(context.registry, "blue", 1, actor="ada", reason="asked for")
        report_all(context, None)
        drop(workspace, "crash")
        assert update(context).outcome == "failed"
        crash = select_records(context.catalog, Selection(labels=("crash",)))
        assert hold(context, crash, reason="they cannot be learnt") == len(crash) == 12
        (workspace.inbox / "storm.jsonl").write_text(
            "".join(
                json.dumps({"text": f"a storm {n}", "label": "storm"}) + "\n" for n in range(9)
            ),
            encoding="utf-8",
        )
        monkeypatch.setenv("SCRIPTED_SECONDS", "8")
        stop = StopAtOnce()
        with pytest.raises(ChildStopped):
            update(context, progress=stop.hear, must_stop=stop.is_set)
        monkeypatch.setenv("SCRIPTED_SECONDS", "0")
    watch.context.close()
    return workspace


def test_no_file_of_a_used_workspace_says_where_it_is(used):
    assert list((used.root / "state" / "cycles").glob("*/job.json"))
    assert naming(used.root) == []


def test_interrupted_cycle_of_a_copy_goes_on_in_the_copy(used, tmp_path):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(used.root, copy, symlinks=True)
    before = contents(used.root)
    with ScriptedContext.open(copy) as context:
        result = update(context)
        assert (result.outcome, result.resumed) == ("promoted", True)
    assert contents(used.root) == before
    assert naming(used.root) == naming(copy) == []


def test_interrupted_cycle_of_a_moved_workspace_goes_on(used, tmp_path):
    moved = used.root.rename(tmp_path / "moved")
    with ScriptedContext.open(moved) as context:
        result = update(context)
    assert (result.outcome, result.resumed) == ("promoted", True), result
    manifest = json.loads((moved / "versions" / "2" / "manifest.json").read_bytes())
    assert "storm" in manifest["model"]["labels"]


def test_cycle_planned_by_an_earlier_contlearn_goes_on_where_its_folder_is(used, tmp_path):
    """Its job names workspace and plugins by paths, which are not asked any more."""
    (folder,) = (used.root / "state" / "cycles").glob("*-00003")
    job = json.loads((folder / "job.json").read_bytes())
    job |= {"workspace": str(used.root), "plugins_dir": "plugins"}
    (folder / "job.json").write_text(json.dumps(job))
    moved = used.root.rename(tmp_path / "moved")
    with ScriptedContext.open(moved) as context:
        assert update(context).outcome == "promoted"
