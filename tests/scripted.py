"""A workspace whose daemon is real and whose trainer is scripted (`tests.scripted_child`)."""

from __future__ import annotations

import itertools
import json
from functools import cached_property
from pathlib import Path

from contlearn.context import Context
from contlearn.daemon import Watch
from contlearn.data.intake.ingest import scan_inbox
from contlearn.operations.ingest import intake_of
from contlearn.registry.versions import Registry
from contlearn.testing import FakeClock
from contlearn.workspace import Workspace

CONFIG = """
[model]
name = "test"
[data]
held_out_ratio = 0.0000001
rest_seconds = 0.0
near_duplicates = false
[update]
min_new_records = 10
cooldown = 0
heartbeat_seconds = 0.2
lease_seconds = 3.0
[daemon]
retry_seconds = 60
grace_seconds = 2
scan_seconds = 0.2
[probation]
window = 0
[retention]
min_free_bytes = 0
"""

_numbers = itertools.count()


def well(folder: Path) -> list[str]:
    """Try nothing: the scripted model is no ONNX graph. Look whether the copy is there."""
    return [] if (folder / "model.onnx").is_file() else ["model.onnx is missing"]


class ScriptedContext(Context):
    """A context whose registry does not load the scripted models."""

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.workspace, self.config, clock=self.clock, preflight=well)


def scan_here(context: Context, *, must_stop=None, progress=None) -> dict:
    """Take in the inbox in this process, which is quicker than a child; the code is the same."""
    if not any(context.workspace.inbox.iterdir()) and not any(context.workspace.claimed.iterdir()):
        return {}
    return scan_inbox(intake_of(context)).to_json()


def make_workspace(root: Path, more: str = "") -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(root)
    text = CONFIG
    for line in more.strip().splitlines():
        # A section that is there already is added to, so that TOML reads it once.
        if line.startswith("[") and line in text:
            head, found, tail = text.partition(line + "\n")
            key = more.partition(line + "\n")[2].partition("\n[")[0]
            names = {item.partition("=")[0].strip() for item in key.splitlines()}
            kept, rest = [], tail.splitlines(keepends=True)
            while rest and not rest[0].startswith("["):
                item = rest.pop(0)
                if item.partition("=")[0].strip() not in names:
                    kept.append(item)
            text = head + found + key.rstrip("\n") + "\n" + "".join(kept) + "".join(rest)
        elif line.startswith("["):
            key = more.partition(line + "\n")[2].partition("\n[")[0]
            text += f"{line}\n{key}\n"
    workspace.config_file.write_text(text, encoding="utf-8")
    workspace.make_folders()
    return workspace


def open_watch(workspace: Workspace, clock=None, plugins_dir=None, **options) -> Watch:
    clock = clock or FakeClock()
    context = ScriptedContext.open(workspace.root, clock=clock, plugins_dir=plugins_dir)
    return Watch(context, child="tests.scripted_child", scan=scan_here, **options)


def drop(workspace: Workspace, label: str, count: int = 12, name: str | None = None) -> str:
    """Drop a file of new texts with one label beside a harmless one."""
    first = next(_numbers)
    name = name or f"{label}-{first}.jsonl"
    rows = [
        {"text": f"{label} {first} {n} {'abcdefghij'[n % 10] * 3} words", "label": label}
        for n in range(count)
    ]
    path = workspace.inbox / f".{name}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path.rename(workspace.inbox / name)
    return name


def states(watch: Watch) -> dict[str, int]:
    """Count records by state."""
    import sqlalchemy as sa

    from contlearn.catalog.schema import records

    with watch.context.catalog.read() as connection:
        rows = connection.execute(
            sa.select(records.c.state, sa.func.count()).group_by(records.c.state)
        )
        return {row[0]: row[1] for row in rows}


def outcomes(watch: Watch) -> list[tuple[str, str | None]]:
    """List (trigger, outcome) of all cycles, oldest first."""
    from contlearn.catalog.cycles import list_cycles

    with watch.context.catalog.read() as connection:
        return [(c.trigger, c.outcome) for c in reversed(list_cycles(connection, 1000))]
