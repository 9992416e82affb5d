"""Scans of an inbox that are killed at random moments, and the count of what came out.

Run as a program it drops files into an inbox, forks a child for each scan and ends it by SIGKILL,
so that nothing of the victim's clean-up runs; then one scan runs through, and everything that was
dropped must be there exactly once. One JSON object goes to standard output.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import files, records
from contlearn.data.intake.ingest import scan_inbox
from contlearn.data.intake.place import Intake
from contlearn.data.store import read_records
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import SystemClock, Workspace
from tests.unit.data.taking import make_config

WORDS = [
    "parcel",
    "invoice",
    "courier",
    "refund",
    "late",
    "broken",
    "twice",
    "size",
    "colour",
    "order",
    "again",
    "never",
    "help",
]
LABELS = ("billing", "shipping", "returns")
# No child runs longer on the processor; most are in the middle of something.
LONGEST_SECONDS = 0.15


class Dropped:
    """What was put into the inbox: every row, and every file by its content."""

    def __init__(self, inbox: Path, rng: random.Random) -> None:
        self._inbox, self._rng = inbox, rng
        self.rows = 0
        self.contents: set[str] = set()
        self.good: dict[str, set[str]] = {}
        self._old: list[dict] = []
        self._logs: dict[str, bytes] = {}

    def drop(self) -> None:
        """Write one file: new rows, known ones, contradictions, and rows that cannot be used.

        Some are files of before that were appended to; what was known of them counts as known.
        """
        rng, lines = self._rng, []
        for _ in range(rng.randrange(20, 200)):
            kind = rng.random()
            if kind < 0.75 or not self._old:
                text = " ".join(rng.choices(WORDS, k=6)) + f" {rng.getrandbits(60)}"
                row = {"text": text, "label": rng.choice(LABELS)}
                self._old.append(row)
            elif kind < 0.85:
                row = rng.choice(self._old)
            elif kind < 0.92:
                row = rng.choice(self._old) | {"label": rng.choice(LABELS)}
            else:
                row = rng.choice([{"text": 5, "label": "billing"}, {"text": "no label"}])
            lines.append(json.dumps(row))
        data = ("\n".join(lines) + "\n").encode()
        name = f"drop-{len(self.contents):04d}.jsonl"
        kind = rng.random()
        if kind < 0.3:
            data, name = gzip.compress(data, mtime=0), name + ".gz"
        elif kind < 0.5 and self._logs:
            grown = rng.choice(sorted(self._logs))
            if not (self._inbox / grown).exists():
                name, data = grown, self._logs[grown] + data
                self.rows += self._logs[grown].count(b"\n")
        if not name.endswith(".gz"):
            self._logs[name] = data
        self.rows += len(lines)
        self.contents.add(hashlib.sha256(data).hexdigest())
        part = self._inbox / (name + ".part")
        part.write_bytes(data)
        part.rename(self._inbox / name)
        if rng.random() < 0.3:
            (self._inbox / (name + ".ready")).touch()


def scan(workspace: Workspace, config, manager) -> None:
    with Catalog(workspace.catalog_url(config)) as catalog:
        scan_inbox(Intake(workspace, config, catalog, manager, clock=SystemClock()))


def killed_scan(workspace: Workspace, config, manager, seconds: float) -> bool:
    """Scan in a child and kill it after so much work; say whether it was still at it.

    What counts is its time on the processor, so that kills fall everywhere on a loaded machine too.
    """
    child = os.fork()
    if child == 0:
        try:
            scan(workspace, config, manager)
        finally:
            os._exit(0)
    while not is_over(child) and processor_seconds(child) < seconds:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def load_everything(manager) -> None:
    """Import what a scan imports, so that children die at their work and not while they load."""
    for module in ("datasketch", "pyarrow.compute", "pyarrow.parquet"):
        importlib.import_module(module)
    manager.table("parser")
    manager.table("task")


def is_over(child: int) -> bool:
    """Say whether a child has ended; it is still to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def processor_seconds(child: int) -> float:
    """Say how long a process has run on the processor. Source: Linux, proc(5), schedstat."""
    try:
        return int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        return float("inf")


def run(
    folder: Path, *, kills: int, seed: int, longest: float = LONGEST_SECONDS
) -> dict[str, object]:
    """Drop, scan and kill until so many scans were killed at work; then count."""
    rng = random.Random(seed)
    workspace = Workspace(folder)
    workspace.make_folders()
    config = make_config(near_duplicates=True, rest_seconds=0.0)
    manager = PluginManager(discover=False)
    load_everything(manager)
    dropped = Dropped(workspace.inbox, rng)
    killed = tried = 0
    while killed < kills:
        for _ in range(rng.randrange(0, 3)):
            dropped.drop()
        tried += 1
        killed += killed_scan(workspace, config, manager, rng.uniform(0, longest))
    with Catalog(workspace.catalog_url(config)) as catalog, catalog.read() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(files)).scalar_one()
    scan(workspace, config, manager)
    return {
        "kills": killed,
        "scans": tried,
        "files_before_the_last_scan": before,
        **count(workspace, config, dropped),
    }


def count(workspace: Workspace, config, dropped: Dropped) -> dict[str, object]:
    """Compare what was dropped with what is there; `faults` is empty when all is well."""
    faults = []
    with Catalog(workspace.catalog_url(config)) as catalog:
        with catalog.read() as connection:
            taken = connection.execute(sa.select(files)).all()
            ids = list(connection.execute(sa.select(records.c.record_id)).scalars())
        readable = read_records(workspace, catalog, ids)
    sums = {
        name: sum(getattr(row, name) for row in taken)
        for name in ("rows", "accepted", "duplicates", "conflicts", "rejected")
    }
    quarantined = sum(
        path.read_bytes().count(b"\n") for path in workspace.quarantine.glob("*.jsonl")
    )
    archived = {path.name[:64] for path in workspace.archive.rglob("*.jsonl*")}
    segments = {path.name for path in workspace.records.glob("*.parquet")}
    checks = {
        "rows are lost or counted twice": sums["rows"] == dropped.rows,
        "counts do not add up": sums["rows"]
        == sums["accepted"] + sums["duplicates"] + sums["conflicts"] + sums["rejected"],
        "files are lost or taken twice": sorted(row.content_hash for row in taken)
        == sorted(dropped.contents),
        "a record is there twice": len(set(ids)) == len(ids),
        "records are not those that were accepted": len(ids) == sums["accepted"],
        "a record cannot be read": [record.record_id for record in readable] == ids,
        "the quarantine is not what was refused": quarantined
        == sums["conflicts"] + sums["rejected"],
        "a file is not in the archive": archived == dropped.contents,
        "a segment belongs to nothing": segments == {r.segment for r in taken if r.segment},
        "something is left in the inbox": not any(
            path.is_file() for path in (*workspace.inbox.iterdir(), *workspace.claimed.rglob("*"))
        ),
        "something temporary is left": not list(workspace.state.rglob("*.tmp")),
    }
    faults = [fault for fault, is_well in checks.items() if not is_well]
    return {"files": len(taken), **sums, "faults": faults}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--longest", type=float, default=LONGEST_SECONDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder_ws = Path(folder) / "ws"
        result = run(folder_ws, kills=options.kills, seed=options.seed, longest=options.longest)
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
