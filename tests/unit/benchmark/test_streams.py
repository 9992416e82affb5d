from __future__ import annotations

import json

import pytest

from contlearn.benchmark import parse_spec, stream_from_folder, stream_from_rows
from contlearn.benchmark.compare import _recommend
from contlearn.benchmark.measures import measures_of
from contlearn.benchmark.result import Summary
from contlearn.benchmark.streams import load_stream, save_stream
from contlearn.config import TrainingConfig
from contlearn.errors import ContlearnError, PluginError, RecordError, UsageError
from contlearn.plugins.manager import PluginManager
from tests.texts import classified, tagged

MANAGER = PluginManager(discover=False)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_gives_experiences_in_the_order_of_names(tmp_path):
    write(tmp_path / "02-later.jsonl", classified(["music"], 40))
    write(tmp_path / "01-first" / "train.jsonl", classified(["billing"], 10))
    write(tmp_path / "01-first" / "dev.jsonl", classified(["billing"], 4, seed=1))
    write(tmp_path / "01-first" / "test.jsonl", classified(["billing"], 6, seed=2))
    (tmp_path / "README.md").write_text("no experience")
    stream = stream_from_folder(tmp_path)
    assert [step.name for step in stream.steps] == ["01-first", "02-later"]
    assert [len(part) for part in (stream.steps[0].train, stream.steps[0].dev, stream.steps[0].test)] == [10, 4, 6]  # fmt: skip
    later = stream.steps[1]
    ids = [{r.record_id for r in part} for part in (later.train, later.dev, later.test)]
    assert not (ids[0] & ids[1]) | (ids[0] & ids[2]) | (ids[1] & ids[2])
    assert sum(map(len, ids)) == 40


def test_rows_stand_on_the_same_side_whatever_else_is_there():
    rows = classified(["billing", "garden"], 30)
    one = stream_from_rows({"a": rows, "b": rows[:40]})
    two = stream_from_rows({"a": rows[::-1], "b": rows[:40]})
    assert {r.record_id for r in one.steps[0].test} == {r.record_id for r in two.steps[0].test}


def test_a_stream_survives_being_written(tmp_path):
    experiences = {"a": tagged(["city"], 30), "b": tagged(["artist"], 30, seed=3)}
    stream = stream_from_rows(experiences, task="token-classification")
    save_stream(stream, tmp_path / "stream.json")
    assert load_stream(tmp_path / "stream.json") == stream
    assert (tmp_path / "stream.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "There are no experiences"),
        ({"a.jsonl": classified(["music"], 40)}, "There is one experience"),
        (
            {"a.jsonl": classified(["music"], 2), "b.jsonl": classified(["music"], 40)},
            "rows to learn",
        ),
        ({"a.weird": classified(["music"], 2)}, "no known format"),
        ({"a.jsonl": [{"text": "no label"}], "b.jsonl": []}, "label"),
    ],
)
def test_a_folder_that_cannot_be_compared_on_is_refused(tmp_path, files, message):
    for name, rows in files.items():
        write(tmp_path / name, rows)
    with pytest.raises((UsageError, RecordError), match=message):
        stream_from_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "strategy", "regularizers", "method"),
    [
        ("er", "er", [], "full"),
        ("naive+lwf", "naive", ["lwf"], "full"),
        ("er+er-ace+mixup@lora", "er", ["er-ace", "mixup"], "lora"),
        ("der-plus-plus", "naive", ["der-plus-plus"], "full"),
        ("er-ace", "er", ["er-ace"], "full"),
        ("naive-tuned", "naive", [], "full"),
    ],
)
def test_specs_say_what_stands_on_what(text, strategy, regularizers, method):
    spec = parse_spec(text, manager=MANAGER)
    assert spec.strategy == strategy
    assert [item["name"] for item in spec.training["regularizers"]] == regularizers
    assert spec.training["method"] == method


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("joints", {}, "Did you mean 'joint'"),
        ("er+nothing", {}, "There is no regularizer 'nothing'"),
        ("er@lorax", {}, "Did you mean 'lora'"),
        ("er lora", {}, "is no strategy"),
        ("er", {"epochs": 0}, "greater than or equal to 1"),
        ("er", {"epoch": 3}, "Did you mean epochs"),
        ("ewcc", {}, "Did you mean 'ewc'"),
    ],
)
def test_a_spec_that_is_wrong_is_refused(text, settings, message):
    with pytest.raises(ContlearnError) as caught:
        parse_spec(text, manager=MANAGER, settings=settings)
    assert message in f"{caught.value.what} {caught.value.hint}"
    assert isinstance(caught.value, ContlearnError | PluginError)


def test_a_spec_leaves_out_what_the_workspace_searches():
    config = TrainingConfig.model_validate({"search": {"trials": 5}})
    assert not parse_spec("er", manager=MANAGER).config(config, seed=0).search.trials
    settings = {"search": {"trials": 3}}
    spec = parse_spec("er", manager=MANAGER, settings=settings)
    assert spec.config(config, seed=0).search.trials == 3


def test_figures_of_a_run_are_those_of_its_rows():
    rows = [
        {"test": [0.9, None], "dev": [0.8, None], "right": [[1, 1, 1, 0]], "chance": 0.5},
        {"test": [0.6, 0.7], "dev": [0.6, 0.8], "right": [[1, 0, 1, 1], [1]], "chance": 0.25},
    ]
    found = measures_of(rows, steps=2, is_reference=False)
    assert found["average_accuracy"] == pytest.approx(0.65)
    assert found["dev_accuracy"] == pytest.approx(0.7)
    assert found["forgetting"] == pytest.approx(0.3)
    assert found["backward_transfer"] == pytest.approx(-0.3)
    assert found["learning_accuracy"] == pytest.approx(0.8)
    assert found["negative_flips"] == pytest.approx(0.25)
    assert found["forward_transfer"] is None  # the labels of the second were not known
    assert found["curve"] == [0.9, 0.65]
    known = [{**rows[0], "test": [0.9, 0.6]}, rows[1]]
    assert measures_of(known, steps=2, is_reference=False)["forward_transfer"] == pytest.approx(0.1)


def summary(name, dev, test, *, spread=0.0, is_reference=False):
    return Summary(
        name=name, seeds=3, is_reference=is_reference, means={"average_accuracy": test},
        spread=spread, dev_accuracy=dev, curve=None,
    )  # fmt: skip


def test_the_default_is_recommended_unless_another_leads_clearly():
    joint = summary("joint", 0.95, 0.95, is_reference=True)
    name, reason = _recommend([summary("replay", 0.9, 0.9), summary("er", 0.905, 0.91), joint])
    assert name == "replay"
    assert "no strategy leads the default" in reason
    assert "5.0 % below learning everything at once (joint)" in reason
    name, reason = _recommend([summary("replay", 0.9, 0.9), summary("er", 0.95, 0.94), joint])
    assert name == "er"
    assert "5.0 % before the default" in reason
    noisy = summary("er", 0.95, 0.94, spread=0.08)
    assert _recommend([summary("replay", 0.9, 0.9), noisy])[0] == "replay"
    assert _recommend([joint])[0] == ""
