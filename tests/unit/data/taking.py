"""Taking files in, for tests: one workspace, one catalog, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import files, records
from contlearn.config import Config
from contlearn.data.intake.ingest import ingest_paths, scan_inbox
from contlearn.data.intake.place import Intake
from contlearn.data.store import read_records
from contlearn.plugins.manager import PluginManager
from contlearn.testing import FakeClock
from contlearn.workspace import Workspace

LABELS = ("billing", "shipping", "returns")


def make_config(**data) -> Config:
    """A configuration for text classification with near-duplicates off unless asked for."""
    task = data.pop("task", "text-classification")
    data.setdefault("near_duplicates", False)
    return Config.model_validate({"model": {"task": task}, "data": data})


@dataclass
class Taker:
    workspace: Workspace
    config: Config
    catalog: Catalog
    manager: PluginManager
    clock: FakeClock

    def intake(self, config: Config | None = None, **rules) -> Intake:
        parts = (self.workspace, config or self.config, self.catalog, self.manager)
        return Intake(*parts, clock=self.clock, **rules)

    def ingest(self, *paths: Path, config: Config | None = None, held_out=False, **rules):
        intake = self.intake(config, **rules)
        return ingest_paths(intake, list(paths), held_out=held_out).to_json()

    def scan(self, config: Config | None = None, **rules):
        return scan_inbox(self.intake(config, **rules)).to_json()

    def write(self, name: str, rows, folder: Path | None = None) -> Path:
        path = (folder or self.workspace.root) / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    def rows(self):
        """Everything the catalog knows of the records, in the order of arrival."""
        with self.catalog.read() as connection:
            return connection.execute(sa.select(records).order_by(records.c.seq)).all()

    def files(self):
        with self.catalog.read() as connection:
            return connection.execute(sa.select(files).order_by(files.c.file_id)).all()

    def records(self):
        """Every record that can be read, in the order of their lines."""
        found = sorted(self.rows(), key=lambda row: (row.file_id, row.row))
        return read_records(self.workspace, self.catalog, [row.record_id for row in found])

    def quarantine(self):
        lines = []
        for path in sorted(self.workspace.quarantine.glob("*.jsonl")):
            lines.extend(json.loads(line) for line in path.read_text().splitlines())
        return lines


@contextmanager
def taker(root: Path, config: Config | None = None) -> Iterator[Taker]:
    workspace = Workspace(root)
    workspace.make_folders()
    config = config or make_config()
    with Catalog(workspace.catalog_url(config)) as catalog:
        yield Taker(workspace, config, catalog, PluginManager(discover=False), FakeClock())
