"""What is read from a version's papers is what was written, whichever contlearn wrote it."""

from __future__ import annotations

import json

import pytest

from contlearn.errors import RegistryError, StorageError
from contlearn.papers import scores
from contlearn.papers.decision import DECISION, read_decision
from contlearn.papers.manifest import Manifest, ModelFacts, VersionFacts, read_manifest
from contlearn.papers.pointer import POINTER, Pointer, read_pointer
from contlearn.papers.report import REPORT, read_report
from contlearn.types import Calibration, PromotionDecision

SCORES = {"accuracy": 0.5}
WHOLE = {
    "format_version": 1,
    "version": None,
    "metrics": {"accuracy": 0.5, "forgetting": None},
    "primary_metric": "accuracy",
    "accuracy_matrix": [[0.25], [None, 0.5]],
    "per_label": [{"label": "a", "precision": 1.0, "recall": 0.5, "f1": 0.75, "support": 4}],
    "confusion": {"labels": ["a"], "matrix": [[4]]},
    "sets": [
        {
            "experience": "c1", "index": 0, "is_new": True, "rows": 4, "metrics": SCORES,
            "content_hash": "aa", "champion": None, "majority": 0.25,
        }
    ],
    "experiences": [None, "c1"],
    "reliability": None,
    "runtime": None,
    "slices": [{"by": "script", "value": "Latin", "rows": 4, "challenger": 0.5, "champion": None}],
    "metric": "accuracy",
    "champion_metrics": None,
    "flips": {
        "lost": [],
        "wrong": [
            {
                "record_id": "r1", "set": 0, "target": ["O", "B-x"], "before": None,
                "after": ["O", "O"], "confidence": None,
            }
        ],
    },
    "label_counts": {"a": 4},
    "text_slices": [{"slice": "short", "rows": 4}],
}  # fmt: skip


def _write(path, value):
    path.write_text(json.dumps(value))
    return path.parent


def test_report_is_written_as_it_was_read(tmp_path):
    report = read_report(_write(tmp_path / REPORT, WHOLE))
    assert json.dumps(report.to_json()) == json.dumps(WHOLE)
    assert report.comparison.flips["wrong"][0].target == ("O", "B-x")


def test_report_of_an_earlier_contlearn_opens(tmp_path):
    report = read_report(_write(tmp_path / REPORT, {"metrics": SCORES, "accuracy_matrix": [[0.5]]}))
    assert (report.accuracy_matrix, report.sets, report.primary_metric) == (
        ((0.5,),),
        (),
        "accuracy",
    )


@pytest.mark.parametrize("change", [{"per_label": [{}]}, {"sets": [1]}, {"accuracy_matrix": [3]}])
def test_damaged_report_is_told_with_its_place(tmp_path, change):
    with pytest.raises(StorageError, match=r"report\.json is damaged"):
        read_report(_write(tmp_path / REPORT, WHOLE | change))


def test_missing_report_is_told_with_its_place(tmp_path):
    with pytest.raises(StorageError, match=r"report\.json is missing") as told:
        read_report(tmp_path)
    assert told.value.where == str(tmp_path / REPORT)


ANSWERED = {
    "format_version": 1,
    "labels": ["a", "b"],
    "sets": [
        {
            "experience": "c1", "index": 0, "is_new": True, "content_hash": "aa",
            "record_ids": ["r1", "r2"], "targets": {"names": ["a", "b"], "rows": [0, 1]},
            "challenger": {"names": ["a"], "rows": [0, 0], "confidences": [0.5, 0.75]},
            "champion": None, "slices": {"script": {"names": ["Latin"], "rows": [0, 0]}},
        }
    ],
}  # fmt: skip


def test_scores_are_written_as_they_were_read(tmp_path):
    read = scores.read_scores(_write(tmp_path / scores.SCORES, ANSWERED))
    assert json.dumps(read.to_json()) == json.dumps(ANSWERED)
    assert read.sets[0].challenger == scores.Answers(("a", "a"), (0.5, 0.75))


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2}, {"labels": 3}, {"sets": [{}]}, {"sets": [1]},
        {"sets": [{**ANSWERED["sets"][0], "record_ids": ["r1"]}]},
        {"sets": [{**ANSWERED["sets"][0], "targets": {"names": ["a"], "rows": [0, 1]}}]},
    ],
)  # fmt: skip
def test_damaged_scores_are_told_with_their_place(tmp_path, change):
    with pytest.raises(StorageError, match=r"scores\.json is damaged"):
        scores.read_scores(_write(tmp_path / scores.SCORES, ANSWERED | change))


@pytest.mark.parametrize("outcomes", [3, [1], {"rule": 1}])
def test_damaged_decision_is_told_with_its_place(tmp_path, outcomes):
    with pytest.raises(StorageError, match=r"decision\.json is damaged"):
        read_decision(_write(tmp_path / DECISION, {"format_version": 1, "outcomes": outcomes}))


def test_decision_is_written_as_it_was_read_and_names_what_refused(tmp_path):
    outcome = {"rule": "gain", "passed": False, "measured": 1, "required": 2.0, "message": "No."}
    value = {
        "format_version": 1, "champion": 2, "challenger": None, "promoted": False, "verdict": "refused",
        "outcomes": [outcome, {**outcome, "rule": "floor", "passed": None}], "warnings": ["w"],
    }  # fmt: skip
    decision = read_decision(_write(tmp_path / DECISION, value))
    assert json.dumps(decision.to_json()) == json.dumps(value)
    assert [one.rule for one in decision.refusals] == ["gain"]
    assert [one.verdict for one in decision.outcomes] == ["refused", "not applicable"]
    assert PromotionDecision.from_json({}).promoted is False


def test_decision_that_keeps_is_written_as_it_was_read(tmp_path):
    outcome = {"rule": "worth", "passed": False, "measured": 0.1, "required": 1.0, "message": "No."}
    value = {
        "format_version": 1, "champion": 2, "challenger": None, "promoted": False, "verdict": "kept",
        "outcomes": [{**outcome, "keeps": True}], "warnings": [],
    }  # fmt: skip
    decision = read_decision(_write(tmp_path / DECISION, value))
    assert json.dumps(decision.to_json()) == json.dumps(value)
    assert (decision.refusals, [one.rule for one in decision.not_worth]) == ((), ["worth"])


@pytest.mark.parametrize(("promoted", "verdict"), [(True, "promoted"), (False, "refused")])
def test_decision_of_an_earlier_contlearn_has_a_verdict(tmp_path, promoted, verdict):
    outcome = {"rule": "gain", "passed": promoted, "measured": 1, "required": 2, "message": "So."}
    value = {"format_version": 1, "promoted": promoted, "outcomes": [outcome]}
    assert read_decision(_write(tmp_path / DECISION, value)).verdict == verdict


@pytest.mark.parametrize(
    "value",
    [{"version": 3, "epoch": 7, "sha256": "ab", "at": "2030-01-01"}, {"version": 3, "epoch": 7}],
)
def test_pointer_is_written_as_it_was_read(tmp_path, value):
    pointer = read_pointer(_write(tmp_path / POINTER, value))
    assert json.dumps(pointer.to_json()) == json.dumps(value)
    assert pointer == Pointer(**value)


def test_manifest_keeps_what_another_contlearn_wrote(tmp_path):
    value = {
        "format_version": 1, "version": 4, "of_tomorrow": 1, "files": {},
        "model": {"labels": ["a", "b"], "temperature": 2, "new": True}, "lineage": {"cycle": "c4"},
    }  # fmt: skip
    folder = _write(tmp_path / "manifest.json", value)
    manifest = read_manifest(folder / "manifest.json")
    assert manifest.to_json() == value
    assert manifest.model.to_json() == value["model"]
    assert (manifest.model.labels, manifest.model.calibration.temperature) == (("a", "b"), 2.0)
    assert (manifest.lineage.cycle, manifest.lineage.experiences) == ("c4", ())
    other = manifest.with_parts(model={"labels": ["c"]})
    assert isinstance(other, Manifest)
    assert (other.model.labels, other.to_json()["of_tomorrow"]) == (("c",), 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"format_version": 2}, "format version 2, not 1"),
        ({"format_version": 1, "model": {}}, r"lacks version, files, model\.labels"),
        ({"format_version": 1, "version": "x", "files": {}, "model": {"labels": []}}, "damaged"),
        ({"format_version": 1, "version": 1, "files": {}, "model": [1]}, "damaged"),
    ],
)
def test_manifest_that_is_none_is_refused(tmp_path, value, message):
    with pytest.raises(RegistryError, match=message):
        read_manifest(_write(tmp_path / "manifest.json", value) / "manifest.json")


def test_facts_of_nothing_are_empty():
    assert VersionFacts.from_json({}) == VersionFacts()


@pytest.mark.parametrize(
    ("graph", "pipeline"),
    [
        ("sequence-classification", "text-classification"),
        ("token-classification", "token-classification"),
    ],
)
def test_manifest_of_an_earlier_contlearn_names_the_graph_instead_of_the_pipeline(graph, pipeline):
    facts = ModelFacts.from_json({"labels": ["a"], "graph": graph, "temperature": 1.5})
    assert facts.pipeline == pipeline
    assert facts.calibration == Calibration(temperature=1.5)
    assert facts.task_options == {}


MODEL = {"labels": ["a", "b"], "temperature": 1.5, "max_tokens": 64, "pad_id": 0}
FILE = {"size": 3, "sha256": "ab"}


def _manifest(tmp_path, *, model=MODEL, files=None):
    value = {"format_version": 1, "version": 2, "model": model, "files": files or {}}
    _write(tmp_path / "manifest.json", value)
    return read_manifest(tmp_path / "manifest.json")


def test_manifest_with_all_its_numbers_is_read(tmp_path):
    whole = MODEL | {
        "calibration": {"low": -1.5},
        "unknown": {"score": "energy", "threshold": -3.0, "rate": 0.05},
    }
    read = _manifest(tmp_path, model=whole, files={"onnx/model.onnx": FILE})
    assert read.model.calibration == Calibration(temperature=1.5, numbers={"low": -1.5})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0}, "model.temperature is 0, not a number above 0"),
        ({"temperature": -1.0}, "model.temperature is -1.0, not a number above 0"),
        ({"temperature": float("nan")}, "model.temperature is nan, not a number above 0"),
        ({"temperature": float("inf")}, "model.temperature is inf, not a number above 0"),
        ({"temperature": 10**400}, "int too large to convert to float"),
        ({"temperature": "1"}, "model.temperature is '1', not a number above 0"),
        ({"temperature": True}, "model.temperature is True, not a number above 0"),
        ({"max_tokens": 0}, "model.max_tokens is 0, not a whole number above 0"),
        ({"max_tokens": 3.5}, "model.max_tokens is 3.5, not a whole number above 0"),
        ({"pad_id": -1}, "model.pad_id is -1, not a whole number above -1"),
        ({"labels": "ab"}, "model.labels is not a list of names"),
        ({"labels": ["a", 1]}, "model.labels is not a list of names"),
        ({"labels": ["a", "a"]}, "model.labels has a name twice"),
        ({"calibration": {"low": float("nan")}}, "model.calibration.low is nan, not a number"),
        ({"calibration": [1]}, "model.calibration is not a part of its own"),
        ({"unknown": {"score": "energy"}}, "model.unknown.threshold is None, not a number"),
    ],
)
def test_manifest_whose_values_no_model_can_be_asked_with_is_refused(tmp_path, change, said):
    with pytest.raises(RegistryError) as told:
        _manifest(tmp_path, model=MODEL | change)
    assert told.value.what == f"The manifest is damaged: {said}."
    assert told.value.where == str(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"../model.onnx": FILE}, "files names '../model.onnx', which is not in the version's"),
        ({"onnx/../../x": FILE}, "files names 'onnx/../../x', which is not in the version's"),
        ({"/etc/passwd": FILE}, "files names '/etc/passwd', which is not in the version's"),
        ({"": FILE}, "files names '', which is not in the version's"),
        ({"onnx/a": {"size": 3}}, "files says no size and SHA-256 of 'onnx/a'"),
        ({"onnx/a": 3}, "files says no size and SHA-256 of 'onnx/a'"),
        (["onnx/a"], "files is not a part of its own"),
    ],
)
def test_manifest_whose_files_lie_elsewhere_is_refused(tmp_path, files, said):
    with pytest.raises(RegistryError) as told:
        _manifest(tmp_path, files=files)
    assert told.value.what.startswith(f"The manifest is damaged: {said}")
