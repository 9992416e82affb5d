"""What is said about a version."""

from __future__ import annotations

import json

from contlearn.catalog.records import experience_records, plan_records
from contlearn.context import Context
from contlearn.operations.ingest import ingest_files
from contlearn.operations.records import forget
from contlearn.operations.show import describe_version
from tests.unit.registry.staged import facts, stage


def test_a_version_says_how_many_of_its_records_are_forgotten(workspace):
    rows = [json.dumps({"text": f"text {n}", "label": "yes"}) for n in range(3)]
    (workspace.root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    with Context.open(workspace.root) as context:
        ingest_files(context, [workspace.root / "rows.jsonl"])
        with context.catalog.write() as connection:
            plan_records(connection, "c1")
            learnt = experience_records(connection, "c1", "train")
        folder = stage(workspace.root, "c1")
        context.registry.register(folder, cycle_id="c1", parent=None, facts=facts())
        assert describe_version(context, 1)["forgotten_records"] == 0
        forget(context, learnt[:1])
        assert describe_version(context, 1)["forgotten_records"] == 1
