"""Whatever changes something takes --dry-run, and then changes nothing."""

from __future__ import annotations

import json

import click
import pytest

from contlearn.cli import COMMANDS, cli
from tests.texts import everything

# These change nothing that is kept, write only the file that they were asked for, or run on.
READERS = {
    "status", "history", "show", "diff", "verify", "evaluate", "predict", "doctor", "metrics",
    "report", "serve", "daemon", "demo", "alias list", "anchor show", "config show", "config explain", "config schema",
    "plugins list", "plugins check", "data list", "data show", "data check", "data labels",
    "data suspects", "notify test", "notify secret", "bench strategies",
    "drift",  # looks; --record is what writes
}  # fmt: skip


def _all(group, before=()):
    context = click.Context(group)
    names = COMMANDS if group is cli else group.list_commands(context)
    for name in names:
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _all(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def test_every_command_takes_dry_run_or_is_known_to_read_only():
    without = {
        name
        for name, command in _all(cli)
        if not any("--dry-run" in option.opts for option in command.params)
    }
    assert without == READERS


ROWS = [
    {"text": "a fine text", "label": "billing"},
    {"text": "another one", "label": "returns"},
    {"text": "no label at all"},
]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest", "MORE"),
        ("ingest", "--held-out", "MORE"),
        ("data", "hold", "--label", "billing"),
        ("data", "release"),
        ("data", "forget", "--label", "returns"),
        ("data", "quarantine", "--retry"),
        ("data", "quarantine", "--discard"),
        ("data", "quarantine", "--export", "SHEET"),
        ("notify", "send"),
        ("update",),
        ("init", "NEW"),
    ],
    ids=" ".join,
)
def test_dry_run_changes_nothing(in_workspace, workspace, tmp_path, arguments):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert in_workspace("ingest", path).code == 0
    assert in_workspace("data", "hold", "--label", "returns").code == 0
    more = tmp_path / "more.jsonl"
    more.write_text('{"text": "one more", "label": "billing"}\n')
    places = {"MORE": more, "SHEET": tmp_path / "sheet.csv", "NEW": tmp_path / "new"}
    outside = sorted(tmp_path.iterdir())
    before = everything(workspace.root)
    ran = in_workspace(*[places.get(word, word) for word in arguments], "--dry-run")
    assert ran.code == 0, ran
    assert everything(workspace.root) == before
    assert sorted(tmp_path.iterdir()) == outside
