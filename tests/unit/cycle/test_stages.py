from __future__ import annotations

import pytest

from contlearn.cycle.job import STAGES, CycleFolder
from contlearn.cycle.stages import CycleResult, Decided, Evaluated, Exported, Trained
from contlearn.errors import StorageError
from contlearn.papers.manifest import VersionFacts
from contlearn.types import Calibration, PromotionDecision
from contlearn.workspace import read_json, write_json_atomic

COST = {"seconds": 1.5, "peak_bytes": 7}
TRAINED = {
    "labels": ["a", "b"], "strategy": "replay", "options": {}, "steps": 3, "seed": 1,
    "temperature": 2.0, "trained_share": 0.5, "notes": {}, "records_new": 9, **COST,
}  # fmt: skip
# What the earliest contlearn wrote: no hash of the data, no padding, no doubts.
EARLIER = {
    Trained: TRAINED,
    Exported: {"precision": "fp32", "processor": ["avx2"], **COST},
    Evaluated: {"metrics": {"accuracy": 0.5}, **COST},
    Decided: {"decision": {"promoted": True}, **COST},
}


@pytest.fixture
def folder(tmp_path):
    return CycleFolder(tmp_path)


def test_every_stage_has_its_marker():
    assert tuple(kind.stage for kind in EARLIER) == STAGES


@pytest.mark.parametrize("kind", EARLIER)
def test_marker_of_an_earlier_contlearn_opens_and_is_given_back_as_it_was(folder, kind):
    write_json_atomic(folder.marker(kind.stage), EARLIER[kind] | {"of tomorrow": 1})
    done = kind.load(folder)
    assert (done.seconds, done.peak_bytes) == (1.5, 7)
    assert done.to_json() == EARLIER[kind] | {"of tomorrow": 1}


def test_marker_that_an_earlier_contlearn_left_out_things_of_has_them_empty(folder):
    for kind, value in EARLIER.items():
        write_json_atomic(folder.marker(kind.stage), value)
    trained = Trained.load(folder)
    assert (trained.labels, trained.calibration) == (("a", "b"), Calibration(temperature=2.0))
    assert (trained.data_hash, trained.search, trained.warnings) == (None, None, ())
    assert trained.fit == {"seconds": None, "samples": None}
    exported = Exported.load(folder)
    assert (exported.pad_id, exported.warnings) == (0, ())
    assert Evaluated.load(folder).suspects == {}
    assert Decided.load(folder).decision.promoted


def test_marker_of_a_training_says_what_the_strategy_noted(folder):
    tuned = {"seconds": 2.5, "samples": 40, "history": []}
    notes = {"fine_tuning": tuned, "search": {"settings": {}}, "warnings": ["w"]}
    write_json_atomic(folder.marker("training"), TRAINED | {"notes": notes, "data_hash": "aa"})
    trained = Trained.load(folder)
    assert trained.fit == {"seconds": 2.5, "samples": 40}
    assert (trained.search, trained.warnings) == ({"settings": {}}, ("w",))
    assert trained.data_hash == "aa"


@pytest.mark.parametrize("kind", EARLIER)
def test_damaged_marker_is_told_with_its_place_and_what_to_do(folder, kind):
    write_json_atomic(folder.marker(kind.stage), COST)
    with pytest.raises(StorageError) as caught:
        kind.load(folder)
    assert caught.value.what.startswith(f"done-{kind.stage}.json is damaged: KeyError(")
    assert caught.value.where == str(folder.marker(kind.stage))
    assert caught.value.hint == "Restore it from a backup, or remove it if it can be made again."


def test_result_is_read_as_it_was_written(folder):
    facts = VersionFacts.from_json({"model": {"labels": ["a"]}, "metrics": {"accuracy": 0.5}})
    decision = PromotionDecision.from_json({"promoted": True, "champion": 3})
    result = CycleResult(facts=facts, decision=decision, numbers={"steps": 3})
    result.save(folder)
    assert CycleResult.load(folder) == result
    assert list(read_json(folder.result)) == ["facts", "decision", "numbers"]


@pytest.mark.parametrize("value", [{}, {"facts": {}, "decision": {}}, {"facts": 1, "numbers": {}}])
def test_damaged_result_is_told_with_its_place(folder, value):
    write_json_atomic(folder.result, value)
    with pytest.raises(StorageError, match=r"result\.json is damaged"):
        CycleResult.load(folder)
