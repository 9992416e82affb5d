"""What holds texts is never wider than what it came from, under any umask."""

from __future__ import annotations

import json
import os
import stat

import pytest

from contlearn.cli import main
from contlearn.cycle.changes import roll_back
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.operations.report import report_all
from contlearn.pages.version_page import report_path
from contlearn.workspace import Workspace
from tests.scripted import ScriptedContext, make_workspace, scan_here

SECRET = "a private matter"
FOLDERS = ("records", "archive", "quarantine", "claimed")


@pytest.fixture
def umask():
    """Set the umask of this process, and put it back."""
    before = os.umask(0o022)

    def change(mask):
        os.umask(mask)

    yield change
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(root, folders=FOLDERS) -> dict[str, str]:
    return {
        str(path.relative_to(root)): oct(mode(path))
        for folder in folders
        for path in (root / "state" / folder).rglob("*")
        if path.is_file() and mode(path) & 0o077
    }


def rows(path, count=12, label="private"):
    lines = [
        {"text": f"{SECRET} {label} {n} {'abcdefghij'[n % 10] * 3}", "label": label}
        for n in range(count)
    ]
    lines += [{"text": f"{SECRET} without a label"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def call(workspace: Workspace, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(workspace.root), *map(str, arguments)])
    return ended.value.code


def learn(workspace):
    with ScriptedContext.open(workspace.root) as context:
        assert (
            UpdateCycle(context, child="tests.scripted_child", scan=scan_here).run_once().outcome
            == "promoted"
        )
        return report_all(context, None)["path"]


def test_private_file_stays_private_in_an_open_workspace(tmp_path, umask):
    workspace = make_workspace(tmp_path / "ws")
    assert mode(workspace.root) == mode(workspace.records) == 0o755
    path = rows(workspace.inbox / "private.jsonl")
    path.chmod(0o600)
    page = learn(workspace)
    assert open_to_others(workspace.root) == {}
    (cycle,) = workspace.cycles.iterdir()
    assert mode(cycle) == 0o700
    assert mode(tmp_path.__class__(page)) == 0o600
    sheet = tmp_path / "sheet.csv"
    assert call(workspace, "data", "quarantine", "--export", sheet) == 0
    assert mode(sheet) == 0o600
    # A corrected row, taken back from a sheet that a spreadsheet program has opened to everyone.
    sheet.write_text(sheet.read_text().replace('without a label"', 'without a label","private"'))
    sheet.chmod(0o644)
    text = sheet.read_text().splitlines()
    sheet.write_text("\n".join([f'{text[0]},"label"', *text[1:]]) + "\n")
    assert call(workspace, "data", "quarantine", "--take-back", sheet) == 0
    assert open_to_others(workspace.root) == {}
    # Forgetting writes segment and archive anew.
    assert call(workspace, "data", "forget", "--label", "private") == 0
    assert open_to_others(workspace.root) == {}


def test_page_of_a_version_stays_private_when_the_champion_changes(tmp_path, umask):
    workspace = make_workspace(tmp_path / "ws")
    workspace.reports.mkdir()
    for number, (label, rights) in enumerate((("first", 0o600), ("second", 0o640)), 1):
        rows(workspace.inbox / f"{label}.jsonl", label=label)
        page = report_path(workspace, number)
        page.write_text(f"<html><!-- what became of it --><!-- until here -->{SECRET}</html>")
        page.chmod(rights)
        learn(workspace)
    with ScriptedContext.open(workspace.root) as context:
        roll_back(context, reason="to see")
    pages = [report_path(workspace, number) for number in (1, 2)]
    assert [oct(mode(page)) for page in pages] == ["0o600", "0o640"]
    assert all("to see" in page.read_text() for page in pages)


def test_open_file_stays_open_to_the_group_and_others(tmp_path, umask):
    workspace = make_workspace(tmp_path / "ws")
    rows(workspace.inbox / "open.jsonl").chmod(0o644)
    page = learn(workspace)
    made = [p for folder in FOLDERS for p in (workspace.state / folder).rglob("*") if p.is_file()]
    assert len(made) == 3
    assert {mode(path) & 0o044 for path in made} == {0o044}
    assert mode(tmp_path.__class__(page)) == 0o644


def test_each_file_keeps_its_own_and_what_is_made_of_several_the_narrowest(tmp_path, umask):
    workspace = make_workspace(tmp_path / "ws")
    rows(workspace.inbox / "open.jsonl", label="open").chmod(0o644)
    path = workspace.inbox / "group.jsonl"
    path.write_text('{"text": "for the group", "label": "group"}\n' * 1)
    path.chmod(0o640)
    page = learn(workspace)
    assert sorted(mode(p) for p in workspace.records.glob("*.parquet")) == [0o640, 0o644]
    assert sorted(mode(p) for p in workspace.archive.rglob("*.jsonl")) == [0o440, 0o444]
    assert mode(tmp_path.__class__(page)) == 0o640


def test_content_that_came_openly_is_shut_when_it_comes_again_privately(tmp_path, umask):
    workspace = make_workspace(tmp_path / "ws")
    path = rows(tmp_path / "rows.jsonl")
    for rights, kept in ((0o644, 0o444), (0o600, 0o400), (0o644, 0o400)):
        path.chmod(rights)
        assert call(workspace, "ingest", path) == 0
        assert [mode(p) for p in workspace.archive.rglob("*.jsonl")] == [kept]


def test_nothing_is_open_to_others_under_a_strict_umask(tmp_path, umask):
    umask(0o077)
    workspace = make_workspace(tmp_path / "ws")
    rows(workspace.inbox / "open.jsonl").chmod(0o644)
    learn(workspace)
    assert call(workspace, "ingest", rows(tmp_path / "more.jsonl", label="more")) == 0
    found = {
        str(path.relative_to(workspace.root)): oct(mode(path))
        for folder in ("state", "reports", "inbox")
        for path in (workspace.root / folder).rglob("*")
        if mode(path) & 0o077 and not path.is_symlink()
    }
    assert found == {}
