"""Whoever answers with a version of the registry loads it in one way, and lets go of it."""

from __future__ import annotations

import threading

import pytest

import contlearn
from contlearn.config import SigningConfig
from contlearn.context import Context
from contlearn.cycle.doubting import find_doubts
from contlearn.daemon.comparing import compare_on_new_labels
from contlearn.data.intake.ingest import scan_inbox
from contlearn.data.label_quality import out_of_sample_ids
from contlearn.errors import RegistryError
from contlearn.operations.ingest import intake_of
from contlearn.operations.report import worst_flips
from contlearn.operations.suggest import suggest_texts
from contlearn.operations.suspects import find_now
from contlearn.papers.scores import pack_targets
from contlearn.registry.loading import load_version
from contlearn.registry.promotion import promote
from contlearn.workspace import write_json_atomic
from tests.texts import write_rows
from tests.unit.inference.tiny import model_facts, write_model
from tests.unit.registry.staged import facts, stage, well


@pytest.fixture
def context(workspace, tmp_path):
    """One version, unsigned, of a model that knows a few words, and records that it has not seen."""
    (tmp_path / "texts.txt").write_text("good film\nbad film\n")
    rows = [{"text": f"good film {n}", "label": ("good", "bad")[n % 2]} for n in range(20)]
    with workspace.config_file.open("a") as file:
        file.write("[data]\nrest_seconds = 0.0\nheld_out_ratio = 0.0000001\n")
    write_rows(workspace.inbox / "rows.jsonl", rows)
    with Context.open(workspace.root) as opened:
        scan_inbox(intake_of(opened))
        folder = stage(workspace.root, "c1")
        (folder / "onnx" / "model.onnx").unlink()
        write_model(folder / "onnx")
        wrong, right = pack_targets(["bad"]), pack_targets(["good"])
        one = {
            "experience": "c1", "index": 0, "is_new": True, "record_ids": out_of_sample_ids(opened.catalog, limit=1),
            "challenger": {**wrong, "confidences": [0.9]}, "champion": {**right, "confidences": []},
            "targets": right,
        }  # fmt: skip
        write_json_atomic(
            folder / "scores.json",
            {"format_version": 1, "labels": ["bad", "good"], "sets": [one]},
        )
        opened.registry.preflight = well
        opened.registry.register(
            folder, cycle_id="c1", parent=None, facts=facts(model=model_facts())
        )
        promote(opened.registry, 1, actor="ada", reason="")
        yield opened


USES = {
    "predict": lambda context, _: contlearn.predict_texts(context, ["good film"]),
    "evaluate": lambda context, path: contlearn.evaluate_version(context, on=path / "on.jsonl"),
    "suggest": lambda context, path: suggest_texts(context, source=path / "texts.txt", count=1),
    "suspects": lambda context, _: find_now(context, look_at=10),
    "flips": lambda context, _: worst_flips(context, context.registry.get(1), 1),
    "doubts": lambda context, _: find_doubts(context, after=0, most=10),
    "compare": lambda context, _: compare_on_new_labels(context, 1, 1, after=0, limit=10),
}


@pytest.mark.parametrize("use", USES)
def test_model_is_let_go_of_and_one_that_is_not_signed_is_refused(context, tmp_path, use):
    write_rows(tmp_path / "on.jsonl", [{"text": "good film", "label": "good"}])
    USES[use](context, tmp_path)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("predict")]
    key = tmp_path / "signing.pub"
    key.write_text("a key that nothing was signed with")
    context.config = context.config.model_copy(
        update={"signing": SigningConfig(public_key=str(key))}
    )
    del context.registry
    with pytest.raises(RegistryError, match="not signed"):
        USES[use](context, tmp_path)


def test_model_is_let_go_of_after_an_error_too(context):
    def fail():
        version = context.registry.get(1)
        with load_version(context.registry, version, context.manager) as predictor:
            predictor.predict([{"text": "good"}] * 64)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("predict")]
