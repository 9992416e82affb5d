"""Whose a catalog is: two workspaces, a copy, a move, a lost state, and a deliberate claim."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from contlearn.catalog.leases import hold_lease
from contlearn.context import Context
from tests.scripted import drop, make_workspace


@pytest.fixture
def shared(tmp_path):
    """Two workspaces that name one database, as two do that were given one server's URL."""
    (tmp_path / "elsewhere").mkdir()
    more = f'[storage]\ncatalog = "sqlite:///{tmp_path}/elsewhere/c.sqlite"\n'
    return make_workspace(tmp_path / "one", more), make_workspace(tmp_path / "two", more)


def status(run, workspace, code=0):
    ran = run("--workspace", workspace, "status", "--json")
    assert ran.code == code, ran.err
    return json.loads(ran.out)


def claim(run, workspace, *more, code=0):
    ran = run("--workspace", workspace, "catalog", "claim", "--json", *more)
    assert ran.code == code, ran.err
    return json.loads(ran.out)


def test_second_workspace_does_not_write_into_the_firsts_catalog(run, shared):
    one, two = shared
    drop(one, "calm", 4)
    status(run, one.root)
    said = status(run, two.root, code=2)
    assert f"belongs to the workspace {one.root} on " in said["error"]
    assert str(two.root) in said["error"]
    assert said["where"] == "storage.catalog in contlearn.toml"
    assert "contlearn catalog claim" in said["hint"]
    status(run, one.root)


def test_catalog_that_is_claimed_is_the_claimers_and_no_longer_the_others(run, shared):
    one, two = shared
    status(run, one.root)
    assert claim(run, two.root, "--dry-run")["claimed"] is False
    status(run, two.root, code=2)
    claimed = claim(run, two.root)
    assert claimed["claimed"] is True
    assert claimed["workspace"] == str(two.root)
    assert str(one.root) in claimed["before"]
    status(run, two.root)
    assert f"belongs to the workspace {two.root}" in status(run, one.root, code=2)["error"]


def test_claim_waits_for_who_works_with_the_catalog(run, shared):
    one, two = shared
    with (
        Context.open(one.root) as context,
        hold_lease(context.catalog, "daemon", purpose="watching this workspace"),
    ):
        said = claim(run, two.root, code=4)
    assert "is watching this workspace" in said["error"]
    assert claim(run, two.root)["claimed"] is True


def test_copy_of_a_workspace_does_not_write_into_the_shared_catalog(run, shared, tmp_path):
    one, _ = shared
    status(run, one.root)
    shutil.copytree(one.root, tmp_path / "copy")
    said = status(run, tmp_path / "copy", code=2)
    assert "is a copy of it, or was moved to another machine" in said["error"]
    status(run, one.root)
    claim(run, tmp_path / "copy")
    status(run, tmp_path / "copy")
    assert str(tmp_path / "copy") in status(run, one.root, code=2)["error"]


def test_moved_workspace_keeps_its_shared_catalog(run, shared, tmp_path):
    one, _ = shared
    status(run, one.root)
    one.root.rename(tmp_path / "moved")
    status(run, tmp_path / "moved")
    # To another file system, where its files get other numbers.
    shutil.copytree(tmp_path / "moved", tmp_path / "farther")
    shutil.rmtree(tmp_path / "moved")
    status(run, tmp_path / "farther")
    # And restored from a backup in its place.
    shutil.copytree(tmp_path / "farther", tmp_path / "backup")
    shutil.rmtree(tmp_path / "farther")
    shutil.copytree(tmp_path / "backup", tmp_path / "farther")
    status(run, tmp_path / "farther")


def test_lost_state_is_said_with_how_to_claim_the_catalog(run, shared):
    one, _ = shared
    status(run, one.root)
    shutil.rmtree(one.state)
    said = status(run, one.root, code=2)
    assert "its state is new, or was lost" in said["error"]
    assert "contlearn catalog claim" in said["hint"]
    claim(run, one.root)
    status(run, one.root)


def test_copy_with_its_catalog_inside_goes_on_as_a_copy(run, tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    status(run, workspace.root)
    shutil.copytree(workspace.root, tmp_path / "copy")
    copy = make_workspace(tmp_path / "copy")
    drop(copy, "calm", 4)
    assert run("--workspace", copy.root, "ingest").code == 0
    assert status(run, copy.root)["pending_records"] == 4
    assert status(run, workspace.root)["pending_records"] == 0


def test_catalog_of_another_workspace_that_was_copied_in_is_refused(run, tmp_path):
    one, two = make_workspace(tmp_path / "one"), make_workspace(tmp_path / "two")
    status(run, one.root)
    status(run, two.root)
    shutil.copy(one.state / "catalog.sqlite", two.state / "catalog.sqlite")
    said = status(run, two.root, code=2)
    name = json.loads((one.root / "state" / "workspace.json").read_text())["workspace"]
    assert f"belongs to the workspace {name[:12]}, inside which it was made" in said["error"]
    claim(run, two.root)
    status(run, two.root)


def test_catalog_of_an_earlier_version_is_adopted_at_its_first_opening(run, shared):
    one, two = shared
    status(run, one.root)
    file = one.root.parent / "elsewhere/c.sqlite"
    with sqlite3.connect(file) as catalog:
        catalog.execute("delete from meta where key = 'workspace'")
    catalog.close()
    (one.state / "workspace.json").unlink()
    status(run, one.root)
    status(run, two.root, code=2)


@pytest.mark.parametrize("name", ["my%20ws", "what?"])
def test_catalog_that_an_earlier_version_put_elsewhere_is_named(run, tmp_path, name):
    before = tmp_path / {"my%20ws": "my ws/state/catalog.sqlite", "what?": "what"}[name]
    workspace = make_workspace(tmp_path / name)
    status(run, workspace.root)
    before.parent.mkdir(parents=True, exist_ok=True)
    (workspace.state / "catalog.sqlite").rename(before)
    said = status(run, workspace.root, code=1)
    assert f"An earlier contlearn kept the catalog of this workspace in {before}" in said["error"]
    assert f"move {before} to {workspace.state}/catalog.sqlite" in said["hint"]
    before.rename(workspace.state / "catalog.sqlite")
    status(run, workspace.root)


@pytest.mark.parametrize("name", ["my%20ws", "what?", "a#b"])
def test_files_are_taken_in_and_counted_whatever_the_folder_is_called(run, tmp_path, name):
    workspace = make_workspace(tmp_path / name)
    drop(workspace, "calm", 4)
    assert run("--workspace", workspace.root, "ingest").code == 0
    assert status(run, workspace.root)["pending_records"] == 4
    assert (workspace.state / "catalog.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
