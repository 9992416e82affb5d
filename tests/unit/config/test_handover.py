"""Children work with the configuration of their parent, whatever has become of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from contlearn.config import Config
from contlearn.config.handover import hand_over, taken_over
from contlearn.context import Context
from contlearn.errors import WorkspaceError


def test_what_was_handed_over_is_taken_over(tmp_path):
    config = Config.model_validate({"update": {"min_new_records": 7, "schedule": "@daily"}})
    variables = hand_over(config, tmp_path)
    assert taken_over(tmp_path, variables) == config
    assert taken_over(tmp_path / "other", variables) is None
    assert taken_over(tmp_path, {}) is None


def test_whom_to_tell_is_not_handed_over():
    channel = {"name": "c", "kind": "webhook", "url": "https://example.org/secret"}
    config = Config.model_validate({"notifications": {"channels": [channel]}})
    assert "secret" not in "".join(hand_over(config, Path("/x")).values())


def test_what_no_variable_can_hold_is_left_to_the_file():
    config = Config.model_validate({"data": {"labels": [f"label-{n:05}" for n in range(9000)]}})
    assert hand_over(config, Path("/x")) == {}


def test_a_child_opens_a_workspace_whose_file_is_gone(workspace, monkeypatch):
    with Context.open(workspace.root) as context:
        variables = context.for_children()
    workspace.config_file.unlink()
    with pytest.raises(WorkspaceError):
        Context.open(workspace.root)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Context.open(workspace.root) as child:
        assert child.config == context.config
