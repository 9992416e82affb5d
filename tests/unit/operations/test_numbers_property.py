"""Whatever was done, `metrics`, `status` and the pages say what catalog and journal hold."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from contlearn.catalog.schema import cycles, files, records
from contlearn.cycle.causes import request_update
from contlearn.cycle.changes import promote_version, roll_back
from contlearn.errors import ContlearnError
from contlearn.operations.ingest import ingest_files
from contlearn.operations.metrics import workspace_registry
from contlearn.operations.overview import read_overview
from contlearn.operations.records import forget, hold, release
from contlearn.operations.status import read_status
from contlearn.pages.overview import render_overview
from contlearn.telemetry.metrics import OUTCOMES, encode_metrics
from contlearn.testing import FakeClock
from tests.scripted import drop, make_workspace, open_watch

CONFIG = """
[data]
held_out_ratio = 0.3
[update]
min_new_records = 8
[daemon]
retry_seconds = 1
poison_divisions = 0
"""
OPEN = ("pending", "refused", "kept")
FAILING = "failed"


class World:
    """A workspace and what may happen to it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.workspace = make_workspace(root / "ws", CONFIG)
        self.watch = open_watch(self.workspace, FakeClock())
        self.context = self.watch.context
        self.watch.begin()

    def act(self) -> str:
        """Do one thing; what cannot be done now is no failure."""
        actions = [self.ingest] * 2 + [self.update] * 4 + [self.ask]
        actions += [self.promote, self.back, self.hold, self.release, self.forget]
        action = self.dice.choice(actions)
        try:
            action()
        except ContlearnError as error:
            return f"{action.__name__}: {error.what}"
        return action.__name__

    def ingest(self) -> None:
        name = drop(self.workspace, self.dice.choice(("calm", "loud")), self.dice.randint(3, 15))
        path = self.workspace.inbox / name
        rows = path.read_text(encoding="utf-8").splitlines()
        rows += self.dice.sample(["{", '{"text": "x"}', '{"label": "y"}', rows[0]], 2)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        if self.dice.random() < 0.3:
            (self.workspace.inbox / "b.csv").write_text("this,is\nno,table\n", encoding="utf-8")
        ingest_files(self.context)

    def update(self) -> None:
        label = self.dice.choices(("calm", "loud", "meh", "bad", "crash"), (4, 4, 3, 2, 1))[0]
        drop(self.workspace, label, 10)
        self.context.clock.sleep(600.0)
        self.watch.step()

    def ask(self) -> None:
        """Have what waits tried at once: kept records again, too."""
        now = self.context.clock.now()
        request_update(self.context.catalog, at=now, by="ada", reason="to see")
        self.context.clock.sleep(600.0)
        self.watch.step()

    def promote(self) -> None:
        number = self.dice.choice(self.context.registry.numbers() or (1,))
        promote_version(self.context, number, actor="ada", reason="because", force=True)

    def back(self) -> None:
        roll_back(self.context, actor="bob", reason="it <was> so", hold=self.dice.random() < 0.5)

    def chosen(self) -> list[str]:
        with self.context.catalog.read() as connection:
            ids = list(connection.execute(sa.select(records.c.record_id)).scalars())
        return self.dice.sample(ids, min(len(ids), 4))

    def hold(self) -> None:
        hold(self.context, self.chosen(), reason="odd")

    def release(self) -> None:
        release(self.context, self.dice.choice((None, self.chosen())), reason="well")

    def forget(self) -> None:
        forget(self.context, self.chosen()[:1], reason="asked to")

    # -- what is true --------------------------------------------------------------------------

    def count(self, *which: sa.ColumnElement[bool]) -> int:
        with self.context.catalog.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(*which)).scalar_one())

    def least(self, *which: sa.ColumnElement[bool]) -> str | None:
        query = sa.select(sa.func.min(records.c.received_at)).where(*which)
        with self.context.catalog.read() as connection:
            return connection.execute(query).scalar()

    def journal(self) -> list[dict]:
        path = self.workspace.versions / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def metrics(self) -> dict:
        body = encode_metrics(workspace_registry(self.context))[0].decode()
        return {
            (sample.name.removeprefix("contlearn_"),
             *sorted(v for k, v in sample.labels.items() if k != "model")): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }  # fmt: skip


def check(world: World) -> None:
    """Hold every number that is shown against SQL on the catalog and lines of the journal."""
    train, held_out = records.c.split == "train", records.c.split == "held_out"
    truth = {
        "pending_records": world.count(records.c.state.in_(OPEN), train),
        "kept_records": world.count(records.c.state == "kept", train, records.c.part.is_(None)),
        "held_records": world.count(records.c.state == "held"),
        "learnt_records": world.count(records.c.state == "learnt", train),
        "held_out_records": world.count(records.c.state.in_((*OPEN, "learnt")), held_out),
    }
    status = read_status(world.context)
    assert {name: status[name] for name in truth} == truth
    metrics = world.metrics()
    shown = ("ingest_pending_records", "kept_records", "held_records", "learnt_records",
             "held_out_records")  # fmt: skip
    assert [metrics[(name,)] for name in shown] == list(truth.values())

    tried = sa.or_(records.c.attempts > 0, records.c.state == "kept")
    first = world.least(records.c.state.in_(OPEN), train, ~tried, records.c.part.is_(None))
    assert metrics.get(("ingest_oldest_pending_timestamp_seconds",)) == (first and _seconds(first))

    changes = [e for e in world.journal() if e["event"] in ("promote", "rollback")]
    champion = changes[-1]["version"] if changes else None
    assert (status["champion"] or {}).get("version") == champion
    assert metrics[("promoted_version",)] == (champion or 0)
    counted = Counter(event["event"] for event in changes)
    for kind in ("promote", "rollback"):
        assert metrics[("promotions_total", kind)] == counted[kind]
    assert metrics[("registry_versions",)] == status["versions"]

    with world.context.catalog.read() as connection:
        rows = connection.execute(sa.select(cycles).order_by(cycles.c.seq)).all()
        taken = connection.execute(sa.select(files)).all()
    outcomes = Counter(row.outcome for row in rows)
    assert status["outcomes"] == dict(outcomes)
    for outcome in OUTCOMES:
        assert metrics[("runs_total", outcome)] == outcomes[outcome]
    ended = [row for row in rows if row.outcome is not None]
    well = [row for row in ended if row.outcome != FAILING]
    for name, last in (("completion", ended), ("success", well)):
        value = metrics.get((f"run_last_{name}_timestamp_seconds",))
        assert value == (_seconds(last[-1].ended_at) if last else None)
    if well:
        passed = [r["passed"] for r in well[-1].reasons if r["rule"] == "gain"]
        assert metrics[("gate_last_passed", "gain")] == float(passed[0])
        assert (status.get("last_success") or {}).get("cycle") == well[-1].cycle_id
    for row in status["recent"]:
        assert (row["why"] is None) == (row["outcome"] == "promoted" and not _by_hand(rows, row))
    verdicts = Counter(file.verdict for file in taken)
    for verdict in ("ok", "partial", "reject"):
        assert metrics[("ingest_files_total", verdict)] == verdicts[verdict]
    for name, column in (("accepted", "accepted"), ("duplicate", "duplicates"),
                         ("conflict", "conflicts"), ("rejected", "rejected")):  # fmt: skip
        total = sum(getattr(file, column) for file in taken)
        assert metrics[("ingest_records_total", name)] == total

    page = render_overview(read_overview(world.context))
    for name, key in (("pending", "pending"), ("kept for the next update", "kept"),
                      ("held", "held"), ("learnt", "learnt")):  # fmt: skip
        number = truth[f"{key}_records"]
        assert f"<b>{number:,}</b>records {name}<" in page
    assert f"<b>{status['versions']}</b>versions<" in page
    by_hand = [e for e in changes if not re.fullmatch(r"cycle [-\d]+", str(e["reason"]))]
    hands = Counter(event["event"] for event in by_hand)
    assert page.count("promoted by hand") == hands["promote"]
    assert page.count(">back to version ") == hands["rollback"]


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def _by_hand(rows: list, row: dict) -> bool:
    (cycle,) = [r for r in rows if r.cycle_id == row["cycle"]]
    return bool(cycle.error)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 4, 102, 103, 104, 107])  # the last four: some are kept
def test_every_number_shown_is_that_of_catalog_and_journal(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    world = World(tmp_path, seed)
    done = []
    try:
        for _ in range(14):
            done.append(world.act())
            try:
                check(world)
            except AssertionError as error:
                raise AssertionError(f"after {done}: {error}") from error
    finally:
        world.context.close()
