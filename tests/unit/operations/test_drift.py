"""Looks at production, on a log as a server writes it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from contlearn.cli import main
from contlearn.errors import EvaluationError, PluginError
from contlearn.monitoring.prediction_detectors import LabelPsi
from contlearn.monitoring.reference import reference_path
from contlearn.monitoring.signals import read_signals
from contlearn.operations.drift import look, record_look
from contlearn.plugins import hookimpl
from tests.logged import START, log_answers, logged_workspace


@pytest.fixture
def context(tmp_path):
    with logged_workspace(tmp_path / "ws") as opened:
        yield opened


def run(capsys, context, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(context.workspace.root), *arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_a_calm_log_is_calm_and_its_reference_is_frozen(context):
    log_answers(context, 1200, seed=1)
    value = look(context, window=300)
    assert not value["detected"]
    assert value["version"] == 1
    assert value["window"]["records"] == 300
    assert value["reference"]["records"] == 500
    assert value["accuracy"]["estimated"]["low"] <= 0.8 <= value["accuracy"]["estimated"]["high"]
    assert value["accuracy"]["measured"] is None
    json.dumps(value)
    path = reference_path(context.workspace.state, 1)
    before = path.read_bytes()
    again = look(context, window=300)
    assert again["detectors"] == value["detectors"]
    assert path.read_bytes() == before
    # The log's own bounds take the first predictions away; the reference stays.
    for segment in context.workspace.predictions.iterdir():
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(b"".join(lines[-400:]))
    assert look(context, window=300)["reference"]["records"] == 500


def test_a_change_is_explained_by_labels_words_clusters_and_examples(context):
    log_answers(context, 700, seed=1, texts=True)
    log_answers(
        context, 400, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1), shift=2.5, texts=True
    )
    value = look(context, window=300)
    assert value["detected"]
    assert value["severity"] == "strong"
    assert value["moved"]["labels"][0]["label"] == "billing"
    assert "app" in {item["word"] for item in value["moved"]["words"]["more"]}
    assert any("new words" in line.lower() for line in value["explanation"])
    assert any("billing" in line for line in value["explanation"])
    assert len(value["examples"]) == 4  # there are but four texts, each shown once
    assert all("new app" in item["text"] for item in value["examples"])
    silent = look(context, window=300, examples=0)
    assert silent["examples"] == []


def test_any_window_of_the_log_can_be_judged(context):
    log_answers(context, 700, seed=1)
    log_answers(context, 300, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1))
    log_answers(context, 300, seed=3, minutes=120)
    now = look(context, window=300)
    assert not now["detected"]
    then = look(
        context,
        since=START + timedelta(minutes=60),
        until=START + timedelta(minutes=100),
    )
    assert then["detected"]
    assert then["window"]["records"] == 300
    assert then["window"]["from"] == "2030-03-17T13:00:00.000+00:00"
    early = look(context, since=START, until=START + timedelta(seconds=300))
    assert early["window"]["records"] == 300
    assert not early["detected"]


def test_accuracy_is_estimated_and_measured_and_a_drop_is_signalled(context):
    log_answers(context, 700, seed=1, labels=1.0)
    calm = look(context, window=300)
    measured = calm["accuracy"]["measured"]
    assert measured["records"] == 300
    assert not measured["dropped"]
    assert calm["accuracy"]["calibration_error"] < 0.1
    signals = record_look(context, calm)
    assert (signals.look, signals.measured.dropped, signals.drift.consecutive) == (1, False, 0)
    log_answers(context, 400, seed=2, minutes=60, sure=(3, 3), labels=1.0, wrong=0.6)
    value = look(context, window=300)
    assert value["detected"]
    assert value["accuracy"]["measured"]["dropped"]
    assert value["accuracy"]["estimated"]["dropped"]
    assert value["accuracy"]["labels"] == 1100
    signals = record_look(context, value)
    assert (signals.look, signals.drift.consecutive) == (2, 1)
    assert "ks-confidence" in signals.drift.detectors
    assert record_look(context, value) == signals  # nothing new: the same look
    log_answers(context, 50, seed=3, minutes=120, sure=(3, 3))
    third = record_look(context, look(context, window=300))
    assert (third.look, third.drift.consecutive, third.drift.since) == (3, 2, signals.drift.since)
    assert read_signals(context.workspace.state) == third


@pytest.mark.parametrize(
    ("model", "runtime", "why"),
    [
        ({"type": "BPE", "vocab": {"a": 0}, "merges": []}, {}, "cannot have unknown pieces"),
        ({}, {"tokenizer": {"unknown_piece": None}}, "cannot have unknown pieces"),
        (
            {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
            {},
            "before '<unk>' was counted as unknown",
        ),
        ({"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}, {}, None),
        ({}, {"tokenizer": {"unknown_piece": "<unk>"}}, None),
    ],
)
def test_unknown_pieces_are_judged_where_there_can_be_any_and_else_it_is_said(
    context, capsys, model, runtime, why
):
    log_answers(context, 700, seed=1)
    folder = context.registry.get(1).path
    for path in (folder, folder / "onnx", folder / "onnx" / "tokenizer.json"):
        path.chmod(0o755)
    if model:
        (folder / "onnx" / "tokenizer.json").write_text(json.dumps({"model": model}))
    if runtime:
        (folder / "runtime.json").write_text(json.dumps({"format_version": 1, **runtime}))
    value = look(context, window=300)
    names = {item["detector"] for item in value["detectors"]}
    assert ("ks-unknown" in names) == (why is None)
    assert "ks-length" in names
    assert list(value["left_out"]) == ([] if why is None else ["ks-unknown"])
    if why is not None:
        assert why in value["left_out"]["ks-unknown"]
        assert f"ks-unknown was left out: {value['left_out']['ks-unknown']}." in " ".join(
            run(capsys, context, "drift", "--window", "300")[1].split("\n")
        )


def test_the_versions_of_a_log_are_kept_apart(context):
    log_answers(context, 400, seed=1, weights=(0.7, 0.1, 0.1, 0.1))
    log_answers(context, 600, seed=2, minutes=60, version=2)
    value = look(context)
    assert value["version"] == 2
    assert not value["detected"]
    assert value["accuracy"]["estimated"] is None  # version 2 is not registered here
    assert look(context, version=1)["version"] == 1


def test_too_little_is_said_with_what_to_do(context, capsys):
    with pytest.raises(EvaluationError, match="0 predictions so far"):
        look(context)
    code, out, err = run(capsys, context, "drift", "--record", "--json")
    assert code == 1
    assert "0 predictions" in json.loads(out)["error"]
    assert "monitoring.log_predictions" in err
    signals = read_signals(context.workspace.state)
    assert (signals.look, signals.version, signals.drift.detected) == (0, None, False)
    log_answers(context, 150, seed=1)
    with pytest.raises(EvaluationError, match="150 predictions|100 predictions"):
        look(context)
    log_answers(context, 300, seed=2, minutes=60)
    with pytest.raises(EvaluationError, match="in that window"):
        look(context, since=START + timedelta(days=3))


def test_damaged_lines_and_references_do_no_harm(context):
    log_answers(context, 1200, seed=1)
    look(context, window=300)
    reference_path(context.workspace.state, 1).write_bytes(b"PK\x03\x04 not a reference")
    segment = next(context.workspace.predictions.iterdir())
    with segment.open("ab") as file:
        file.write(b'{"time": "2030-03-17T15')
    assert not look(context, window=300)["detected"]
    assert reference_path(context.workspace.state, 1).stat().st_size > 1000


def test_detectors_are_chosen_by_name(tmp_path):
    extra = 'detectors = ["psi", "mmd"]\n'
    with logged_workspace(tmp_path / "ws", extra=extra) as context:
        log_answers(context, 600, seed=1)
        assert [d["detector"] for d in look(context)["detectors"]] == ["psi", "mmd"]
    with (
        pytest.raises(PluginError, match="no detector 'mdm'") as caught,
        logged_workspace(tmp_path / "bad", extra='detectors = ["mdm"]\n'),
    ):
        pytest.fail("a workspace with an unknown detector was opened")
    assert "Did you mean 'mmd'" in caught.value.hint


def test_drift_command_prints_what_a_person_understands(context, capsys):
    log_answers(context, 700, seed=1, labels=0.5)
    log_answers(context, 400, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1), shift=2.5)
    code, out, _ = run(capsys, context, "drift", "--window", "300", "--record")
    assert code == 0
    assert "tickets, version 1: strong drift" in out
    assert "The predicted labels moved: billing 2" in out
    assert "Accuracy estimated:" in out
    assert "Accuracy measured:" not in out  # no label came for the window
    assert "neighbour-distance" in out
    assert read_signals(context.workspace.state).drift.detected
    code, _, err = run(capsys, context, "drift", "--window", "300", "--since", "2030-03-17")
    assert code == 2
    assert "only one can be" in err
    code, _, err = run(capsys, context, "drift", "--record", "--version", "1")
    assert code == 2
    assert "Only the present" in err


def test_texts_flagged_beyond_the_usual_share_lower_the_estimate(tmp_path):
    estimates = {}
    for unknown in (None, 0.05, 0.25):
        with logged_workspace(tmp_path / f"ws-{unknown}") as context:
            log_answers(context, 700, seed=1)
            log_answers(context, 300, seed=2, minutes=60, unknown=unknown)
            accuracy = look(context, window=300)["accuracy"]
        assert accuracy["unknown_share"] == unknown
        estimates[unknown] = accuracy["estimated"]
    assert estimates[0.05] == estimates[None]
    # A fifth of the window counts half of what its confidences say.
    assert estimates[None]["value"] - estimates[0.25]["value"] == pytest.approx(0.08, abs=0.01)


def test_detector_that_fails_is_left_out_and_named_but_not_where_the_configuration_names_it(
    context,
):
    class Raises(LabelPsi):
        name = "raises"

        def judge(self, window):
            raise KeyError("k")

    class Brings:
        @hookimpl
        def contlearn_register_detectors(self):
            return [Raises]

    context.manager.register(Brings(), name="brings", distribution="dist-b")
    log_answers(context, 700, seed=1)
    assert look(context, window=300)["left_out"]["raises"] == "it failed: KeyError: 'k'"
    monitoring = context.config.monitoring.model_copy(update={"detectors": ("raises", "psi")})
    context.config = context.config.model_copy(update={"monitoring": monitoring})
    with pytest.raises(EvaluationError, match="detector 'raises' cannot judge"):
        look(context, window=300)
