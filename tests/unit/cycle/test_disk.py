import os

import pytest

from contlearn.config import parse_size
from contlearn.context import Context
from contlearn.cycle.disk import (
    disk_state,
    folder_bytes,
    require_space,
    space_needed,
    sweep,
)
from contlearn.errors import StorageError
from tests.scripted import ScriptedContext, drop, make_workspace, open_watch


@pytest.fixture
def open_context(tmp_path, clock):
    opened = []

    def make(more=""):
        workspace = make_workspace(tmp_path / "ws", more)
        context = ScriptedContext.open(workspace.root, clock=clock)
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


def test_update_that_cannot_fit_says_how_much_is_missing(open_context):
    context = open_context("[retention]\nmin_free_bytes = '900TB'\n")
    with pytest.raises(StorageError, match="does not fit on the disk") as caught:
        require_space(context)
    free = disk_state(context).free
    missing = disk_state(context).missing
    assert missing == pytest.approx(900e12 - free, rel=0.01)
    assert "are missing" in str(caught.value)


def test_budget_of_the_workspace_is_kept(open_context):
    context = open_context("[retention]\nworkspace_bytes = '1MB'\n")
    require_space(context)
    (context.workspace.archive / "big").write_bytes(b"x" * 1_500_000)
    with pytest.raises(StorageError, match=r"has 2 MB of 1 MB \(retention.workspace_bytes\)"):
        require_space(context)


def test_check_can_be_switched_off(open_context):
    require_space(open_context("[retention]\nmin_free_bytes = '900TB'\ncheck_space = false\n"))


def test_need_grows_with_the_champion_and_counts_its_weights_most(tmp_path, clock, monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    workspace = make_workspace(tmp_path / "ws")
    watch = open_watch(workspace, clock)
    watch.begin()
    assert space_needed(watch.context) == 0
    drop(workspace, "calm")
    assert watch.step().outcome == "promoted"
    version = watch.context.registry.get(1).path
    weights = folder_bytes(version / "checkpoint")
    assert space_needed(watch.context) >= folder_bytes(version) + 7 * weights
    watch.context.close()


def test_need_of_the_first_version_comes_from_the_base_model(open_context, tiny_model):
    context = open_context()
    text = context.workspace.config_file.read_text()
    context.workspace.config_file.write_text(
        text.replace('name = "test"', f'name = "test"\nbase = "{tiny_model}"')
    )
    with Context.open(context.workspace.root) as again:
        assert space_needed(again) == 10 * folder_bytes(tiny_model)


def test_sweep_keeps_the_newest_and_touches_nothing_else(open_context):
    context = open_context("[retention]\nnotifications = 3\n")
    workspace = context.workspace
    (workspace.outbox / "sent").mkdir(parents=True)
    for number in range(5):
        (workspace.outbox / "sent" / f"m{number}.json").write_text("{}")
    old = workspace.state / ".daemon.json.abc.tmp"
    young = workspace.state / ".daemon.json.def.tmp"
    mine = workspace.inbox / ".mine.tmp"
    for path in (old, young, mine):
        path.write_text("x")
    now = context.clock.now().timestamp()
    for path in (old, mine):
        os.utime(path, (now - 90_000, now - 90_000))
    os.utime(young, (now, now))
    segments = []
    for number in range(3):
        path = workspace.predictions / f"2030010{number}-1.jsonl"
        path.write_text("{}\n")
        age = 40 * 86400 if number == 0 else 10
        os.utime(path, (now - age, now - age))
        segments.append(path)
    assert sweep(context) == 4
    assert sorted(p.name for p in (workspace.outbox / "sent").iterdir()) == [
        "m2.json",
        "m3.json",
        "m4.json",
    ]
    assert (old.exists(), young.exists(), mine.exists()) == (False, True, True)
    assert [path.exists() for path in segments] == [False, True, True]
    assert sweep(context) == 0


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("2.5 GB", 2_500_000_000), (17, 17), ("3k", 3000)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 PB", True])
def test_sizes_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="size such as"):
        parse_size(text)
