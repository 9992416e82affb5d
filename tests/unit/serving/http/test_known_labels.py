"""The labels that feedback is checked by come out of the workspace's own catalog, and no other."""

from __future__ import annotations

import json

import pytest

from contlearn.config import load_config
from contlearn.context import Context
from contlearn.operations.ingest import ingest_files
from contlearn.serving.http.known_labels import WorkspaceLabels


@pytest.fixture
def labelled(workspace):
    rows = [json.dumps({"text": f"text {n}", "label": "taught"}) for n in range(3)]
    (workspace.root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    with Context.open(workspace.root) as context:
        ingest_files(context, [workspace.root / "rows.jsonl"])
    return workspace


def labels_of(workspace):
    config = load_config(workspace.root).config
    return WorkspaceLabels(config=config, workspace=workspace, served=lambda: ["served"])


def test_labels_and_their_rows_come_out_of_the_catalog(labelled):
    known = labels_of(labelled)
    assert known.read_names() is True
    assert known.names == ("taught",)
    assert known.rows_of("taught", 10, separator=None) == 3
    known.close()


def test_the_catalog_of_another_workspace_is_not_asked(labelled, tmp_path, caplog):
    other = type(labelled)(tmp_path / "other")
    other.make_folders()
    file = labelled.catalog_url(load_config(labelled.root).config).database
    other.config_file.write_text(
        f'[model]\nname = "other"\n[storage]\ncatalog = "sqlite:///{file}"\n', encoding="utf-8"
    )
    known = labels_of(other)
    known.read_names()
    assert known.names == ("served",)
    assert known.rows_of("taught", 10, separator=None) == 0
    known.close()
    assert {record.message for record in caplog.records} == {
        "known labels cannot be read",
        "records cannot be counted",
    }


def test_a_server_makes_no_catalog(workspace):
    known = labels_of(workspace)
    known.read_names()
    assert known.names == ("served",)
    assert not list(workspace.root.rglob("*.sqlite*"))
