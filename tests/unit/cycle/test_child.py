"""The child of a cycle, called in this process: its stages, its marks, and what it tells."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from contlearn.cycle.child import main
from contlearn.cycle.job import STAGES, CycleFolder
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import PluginError
from contlearn.papers.decision import read_decision
from contlearn.papers.report import read_report
from contlearn.workspace import read_json
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here
from tests.texts import classified, write_rows

MORE = """
[model]
base = "{base}"
max_tokens = 16
[data]
held_out_ratio = 0.3
[training]
epochs = 1
[gate]
margin = 0.9
worth_confidence = 0.5
"""


class Here(UpdateCycle):
    """A cycle whose child works in this process."""

    def _run_stages(self, cycle, folder, settlement):
        self.folder = folder
        self.codes = [main([str(folder.path)]), main([str(folder.path)])]
        self.papers = (read_report(folder.version), read_decision(folder.version))
        self.marks = {stage: read_json(folder.marker(stage)) for stage in STAGES}


@pytest.fixture(autouse=True)
def _signals():
    """The child answers SIGTERM in its own way."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_child_trains_exports_scores_and_judges_once(tmp_path, tiny_model, capfd):
    workspace = make_workspace(tmp_path / "ws", MORE.format(base=tiny_model))
    write_rows(workspace.inbox / "rows.jsonl", classified(["billing", "shipping"], 20))
    with ScriptedContext.open(workspace.root) as context:
        cycle = Here(context, scan=scan_here)
        result = cycle.run_once()
        version = context.registry.get(result.version)
    assert cycle.codes == [0, 0]
    begun = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[:1] == "{"]
    starts = [line["stage"] for line in begun if (line["done"], line["total"]) == (0, 0)]
    # The second run found every stage done.
    assert list(dict.fromkeys(starts)) == list(STAGES)
    assert starts.count("exporting") == 1
    report, decision = cycle.papers
    assert dict(report.metrics) == dict(version.manifest.metrics)
    assert [item.is_new for item in report.sets] == [True]
    assert [outcome.to_json() for outcome in decision.outcomes] == list(result.reasons)
    assert version.manifest.lineage.experiences == (result.cycle,)
    assert set(version.label_space.names) == {"billing", "shipping"}
    assert all(mark["seconds"] >= 0 and mark["peak_bytes"] > 0 for mark in cycle.marks.values())


def test_every_child_of_a_cycle_loads_the_plugins_of_its_context(tmp_path):
    """They come from the context, so that a library caller names the folder once."""
    workspace, folder = make_workspace(tmp_path / "ws"), tmp_path / "plugins"
    folder.mkdir()
    with ScriptedContext.open(workspace.root, plugins_dir=folder) as context:
        folder.rmdir()  # only whoever loads it notices
        drop(workspace, "calm")
        with pytest.raises(PluginError, match="There is no folder .*/plugins"):
            UpdateCycle(context).run_once()
        scan_here(context)
        result = UpdateCycle(context, scan=scan_here).run_once()
    assert (result.outcome, type(result.error)) == ("failed", PluginError)
    assert "There is no folder" in result.error.what


def test_line_that_a_library_prints_is_no_progress(tmp_path, monkeypatch):
    workspace = make_workspace(tmp_path / "ws")
    drop(workspace, "calm")
    (tmp_path / "noisy.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom tests.scripted_child import main\n"
        'for line in (\'{}\', \'{"stage": "odd", "done": 1, "total": 2}\', \'{"done": "x"}\'):\n'
        "    print(line)\n"
        "sys.exit(main(Path(sys.argv[1])))\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", path)
    heard = []
    with ScriptedContext.open(workspace.root) as context:
        cycle = UpdateCycle(
            context, lambda stage, *_: heard.append(stage), child="noisy", scan=scan_here
        )
        assert cycle.run_once().outcome == "promoted"
    assert set(heard) == {"planning", *STAGES}


def test_child_tells_why_it_fails(tmp_path, capsys):
    workspace = make_workspace(tmp_path / "ws")
    folder = CycleFolder(workspace.cycles / "20300101-000000-00001")
    folder.path.mkdir(parents=True)
    assert main([str(folder.path)]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["kind"], told["error"]) == ("StorageError", "job.json is missing.")
