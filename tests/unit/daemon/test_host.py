"""One daemon over several workspaces: what it shows of each."""

from __future__ import annotations

import pytest

from contlearn.daemon.endpoint import daemon_routes
from contlearn.daemon.host import Daemon
from contlearn.errors import ConfigError
from tests.scripted import ScriptedContext, drop, make_workspace, open_watch


@pytest.fixture
def contexts(tmp_path):
    """Open two workspaces, of which the second has another name."""
    opened = []

    def make(*names):
        for number, name in enumerate(names):
            workspace = make_workspace(tmp_path / f"ws{number}")
            text = workspace.config_file.read_text()
            workspace.config_file.write_text(text.replace('name = "test"', f'name = "{name}"'))
            opened.append(ScriptedContext.open(workspace.root))
        return opened

    yield make
    for context in opened:
        context.close()


def test_two_models_of_one_name_are_refused(contexts):
    with pytest.raises(ConfigError, match="Two workspaces have a model of the name 'same'") as told:
        Daemon(contexts("same", "same"))
    assert "ws0 and " in told.value.where
    assert "model.name" in told.value.hint


def test_broken_workspace_hides_none_of_the_others(contexts):
    first, second = contexts("broken", "whole")
    watch = open_watch(first.workspace)
    watch.begin()
    drop(first.workspace, "calm")
    assert watch.step().outcome == "promoted"
    watch.context.close()
    folder = first.registry.get(1).path
    folder.chmod(0o755)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text("{")
    status, _, body = daemon_routes(Daemon([first, second]))["/metrics"]({})
    text = body.decode()
    assert status == 200
    assert 'contlearn_ingest_pending_records{model="whole"}' in text
    assert 'contlearn_ingest_pending_records{model="broken"}' not in text
    assert "contlearn_snapshot_failures_total 1.0" in text
