"""Keys that describe another model than the champion are refused before anything runs."""

from __future__ import annotations

import json
import shutil

import pytest

from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import ConfigError
from contlearn.operations.doctor import examine
from tests.scripted import ScriptedContext, make_workspace, scan_here
from tests.texts import write_rows


def write_base(folder, weights=b"weights", **facts):
    """Files that look like a base model; the scripted trainer does not load them."""
    folder.mkdir()
    facts = {"model_type": "bert", "hidden_size": 32, **facts}
    (folder / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}', encoding="utf-8")
    return folder


class Made:
    """A workspace whose first version is promoted, and a second file that waits."""

    def __init__(self, root):
        self.base = write_base(root / "base")
        self.root = root / "ws"
        self.configure(base=self.base)
        self.drop("first.jsonl", 20)
        assert self.update().outcome == "promoted"
        self.drop("second.jsonl", 20)

    def configure(self, data="", **keys):
        lines = "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items())
        if "name" not in keys:
            lines += 'name = "test"\n'
        make_workspace(self.root, f"[model]\n{lines}\n[data]\n{data}\n")

    def drop(self, name, count):
        rows = [{"text": f"{name} text {n}", "label": f"calm{n % 2}"} for n in range(count)]
        write_rows(self.root / "inbox" / name, rows)

    def update(self, **options):
        with ScriptedContext.open(self.root) as context:
            cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)
            return cycle.run_once(**options)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def refused(made, **options):
    with pytest.raises(ConfigError) as caught:
        made.update(**options)
    # Nothing ran: not even the inbox was looked through.
    assert (made.root / "inbox" / "second.jsonl").exists()
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
def test_another_base_model_is_refused_with_the_ways_that_work(made, tmp_path, options):
    other = write_base(tmp_path / "other", b"other weights")
    made.configure(base=other)
    error = refused(made, **options)
    assert f"began from the base model {str(made.base)!r}" in error.what
    assert f"{str(other)!r} would do nothing" in error.what
    assert error.where == "model.base in contlearn.toml"
    for way in (str(made.base), "--strategy joint --force", f"contlearn init DIR --base {other}"):
        assert way in error.hint


def test_a_base_model_that_is_not_here_is_refused_and_said_to_be_so(made):
    made.configure(base="someone/their-model-that-is-nowhere")
    assert "is not on this machine" in refused(made).what


def test_the_same_base_model_at_another_place_goes_on(made, tmp_path):
    made.configure(base=shutil.copytree(made.base, tmp_path / "moved"))
    result = made.update()
    assert (result.outcome, result.warnings) == ("promoted", ())


def test_the_same_folder_under_another_name_goes_on(made, tmp_path):
    (tmp_path / "link").symlink_to(made.base)
    made.configure(base=tmp_path / "link")
    assert made.update().outcome == "promoted"


def test_a_strategy_that_begins_again_takes_the_new_base_model(made, tmp_path):
    made.configure(base=write_base(tmp_path / "other", b"other weights"))
    assert made.update(strategy="joint", force=True).outcome == "promoted"


def test_another_pooling_is_refused(made):
    made.configure(base=made.base, pooling="first")
    error = refused(made)
    assert "pools its pieces by 'mean'" in error.what
    assert error.where == "model.pooling in contlearn.toml"


def test_another_task_is_refused_whatever_the_strategy(made):
    made.configure(base=made.base, task="token-classification")
    for options in ({}, {"strategy": "joint", "force": True}):
        error = refused(made, **options)
        assert error.where == "model.task in contlearn.toml"
        assert "--task token-classification" in error.hint


def test_a_label_that_is_taken_off_the_list_goes_on_being_answered_and_that_is_said(made):
    made.configure(base=made.base, data='labels = ["calm0"]')
    result = made.update()
    assert "data.labels does not list 'calm1'" in result.warnings[0]
    assert result.to_json()["warnings"] == list(result.warnings)


def test_another_name_is_served_from_another_folder_and_that_is_said(made):
    made.configure(base=made.base, name="renamed")
    result = made.update()
    assert result.outcome == "promoted"
    assert str(made.root / "serving" / "test") in result.warnings[0]
    assert str(made.root / "serving" / "renamed") in result.warnings[0]


def test_a_base_model_that_would_be_read_wrongly_stops_the_first_update(tmp_path):
    rope = {"sliding_attention": {"rope_theta": 160_000.0}}
    folder = write_base(
        tmp_path / "base",
        model_type="modernbert",
        transformers_version="99.0.0",
        rope_parameters=rope,
    )
    root = tmp_path / "ws"
    make_workspace(root, f'[model]\nname = "test"\nbase = "{folder}"\n')
    write_rows(root / "inbox" / "first.jsonl", [{"text": "a", "label": "calm"}])
    with ScriptedContext.open(root) as context, pytest.raises(ConfigError) as caught:
        UpdateCycle(context, child="tests.scripted_child", scan=scan_here).run_once()
    assert "rope_theta = 160000" in caught.value.what
    assert (root / "inbox" / "first.jsonl").exists()


@pytest.mark.slow
def test_doctor_holds_the_configuration_against_the_champion(made, tmp_path):
    other = write_base(
        tmp_path / "other",
        model_type="modernbert",
        transformers_version="99.0.0",
        rope_parameters={"sliding_attention": {"rope_theta": 160_000.0}},
    )
    made.configure(base=other)
    checks = {check.name: check for check in examine(made.root)}
    assert checks["base model"].ok is False
    assert "transformers 99.0.0" in checks["base model"].found
    assert checks["configuration and champion"].ok is False
    assert "would do nothing" in checks["configuration and champion"].found
