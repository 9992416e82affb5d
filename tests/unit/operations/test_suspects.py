"""Records not learnt yet whose labels the champion doubts, asked for now."""

from __future__ import annotations

import json

import pytest

from contlearn.context import Context
from contlearn.cycle.doubting import PROVED
from contlearn.data.label_quality import Proof
from contlearn.inference.predictor import OnnxPredictor
from contlearn.operations.ingest import ingest_files
from contlearn.operations.suspects import find_now
from contlearn.registry.promotion import promote
from contlearn.workspace import write_json_atomic
from tests.unit.data.test_label_quality import ByFirstWord
from tests.unit.registry.staged import facts, stage, well


class Loaded(ByFirstWord):
    def close(self):
        """There is nothing to let go of."""


@pytest.fixture
def context(workspace, monkeypatch):
    """A champion that answers by the first word, and records that it has not learnt."""
    rows = [{"text": f"{x} {n}", "label": x} for n in range(20) for x in ("billing", "returns")]
    rows.append({"text": "returns to me", "label": "billing"})
    rows.append({"text": "a song", "label": "music"})
    (workspace.root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    with Context.open(workspace.root) as opened:
        ingest_files(opened, [workspace.root / "rows.jsonl"])
        folder = stage(workspace.root, "c1")
        proof = Proof(means={"billing": 0.9, "returns": 0.9}, rows={"billing": 5, "returns": 5})
        write_json_atomic(folder / PROVED, proof.to_json())
        value = facts()
        value["model"] = {**value["model"], "labels": ["billing", "returns"]}
        opened.registry.preflight = well
        opened.registry.register(folder, cycle_id="c1", parent=None, facts=value)
        promote(opened.registry, 1, actor="ada", reason="first")
        loaded = []

        def load(folder, **_):
            loaded.append(folder)
            return Loaded()

        monkeypatch.setattr(OnnxPredictor, "load", load)
        yield opened
        assert loaded == [opened.registry.get(1).path / "onnx"] * len(loaded) != []


def test_the_champion_judges_what_it_has_not_learnt(context):
    found = find_now(context, look_at=100)
    assert (found["looked_at"], found["number"]) == (42, 1)
    (suspect,) = found["suspects"]
    assert (suspect["given"], suspect["suggested"]) == ("billing", "returns")
    (pair,) = found["pairs"]
    assert (pair["given"], pair["suggested"], pair["number"]) == ("billing", "returns", 1)


def test_no_more_records_are_looked_at_than_was_asked(context):
    assert find_now(context, look_at=5)["looked_at"] == 5
