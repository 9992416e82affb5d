"""The comparison as a stranger calls it: with a tiny model, killed in the middle, called again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contlearn.benchmark import compare_strategies, stream_from_rows
from contlearn.config import ModelConfig, TrainingConfig
from contlearn.errors import ConfigError, PluginError, UsageError
from contlearn.plugins.manager import PluginManager
from tests.texts import classified, tagged


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "experiences"
    found.mkdir()
    for name, labels in (("01-one", ["billing", "garden"]), ("02-two", ["music", "account"])):
        rows = classified(labels, 30)
        (found / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return found


def command(folder, tiny_model, output, *more):
    return [
        sys.executable, "-m", "contlearn", "bench", "strategies", "--folder", str(folder),
        "--base", str(tiny_model), "--output", str(output), "--only", "--strategy", "er",
        "--strategy", "naive+lwf", "--max-tokens", "32", "--seed", "0", "--set", "epochs=1", "--set", "threads=1", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_command_compares_resumes_after_a_kill_and_recommends(folder, tiny_model, tmp_path):
    output = tmp_path / "bench"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        command(folder, tiny_model, output), env=environment, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(output.glob("work/*/step-0.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (output / "result.json").exists()
    done = next(iter(output.glob("work/*/step-0.json")), None)
    before = done.read_bytes() if done else b""
    second = subprocess.run(
        command(folder, tiny_model, output, "--json"), env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    value = json.loads(second.stdout)
    assert before or value["rows"]
    assert {s["name"] for s in value["strategies"]} == {"er", "naive+lwf"}
    assert value["recommendation"] in {"er", "naive+lwf"}
    assert "seed 0 (2 runs" in second.stderr
    for item in value["strategies"]:
        assert 0 <= item["average_accuracy"] <= 1
        assert item["peak_bytes"] > 1e8
        assert item["seconds"] > 0
        assert len(item["curve"]) == 2
    rows = (output / "rows.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert not (output / "work").exists()  # it holds texts
    page = (output / "index.html").read_text()
    assert "<script" not in page
    assert "<polyline" in page
    assert "please" not in page
    # A third call has nothing to do and says the same.
    third = subprocess.run(
        command(folder, tiny_model, output), env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert third.returncode == 0, third.stderr
    assert f"Recommended: {value['recommendation']}" in third.stdout
    assert (output / "rows.jsonl").read_text().splitlines() == rows


@pytest.mark.slow
def test_example_compares_in_ten_lines(folder, tiny_model, tmp_path):
    example = Path(__file__).parents[3] / "examples" / "compare_strategies.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(example.parents[1])}
    done = subprocess.run(
        [sys.executable, str(example), str(folder), str(tiny_model), str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| replay |" in done.stdout
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.slow
def test_a_run_that_fails_says_why(tiny_model, tmp_path):
    from contlearn.errors import ContlearnError

    stream = stream_from_rows({n: classified(["billing", n], 20) for n in ("garden", "music")})
    with pytest.raises(ContlearnError, match="a base model|folder"):
        compare_strategies(
            stream, output=tmp_path, strategies=["naive"], only=True, seeds=[0],
            model=ModelConfig(base="/no/such/model"), training=TrainingConfig(epochs=1, threads=1),
        )  # fmt: skip


def test_runs_load_the_loose_plugins_of_the_manager(tmp_path):
    stream = stream_from_rows({n: classified(["billing", n], 20) for n in ("garden", "music")})
    folder = tmp_path / "plugins"
    folder.mkdir()
    manager = PluginManager(folder=folder)
    folder.rmdir()  # only whoever loads it notices
    with pytest.raises(PluginError, match="There is no folder .*/plugins"):
        compare_strategies(
            stream,
            output=tmp_path / "out",
            strategies=["naive"],
            only=True,
            seeds=[0],
            manager=manager,
        )


def test_nothing_named_is_no_comparison(tmp_path):
    stream = stream_from_rows({n: classified(["billing", n], 20) for n in ("garden", "music")})
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_strategies(stream, output=tmp_path, only=True)
    assert not list(tmp_path.iterdir())


def test_no_seed_is_no_comparison(tmp_path):
    stream = stream_from_rows({n: classified(["billing", n], 20) for n in ("garden", "music")})
    with pytest.raises(UsageError, match="no seed"):
        compare_strategies(stream, output=tmp_path, seeds=[])


def test_runs_are_counted_down_to_the_last_with_the_rates_of_the_tuned_one(tmp_path, monkeypatch):
    from contlearn.benchmark import compare

    rates = []

    def execute(self, spec, seed, key, title):
        rates.append(spec.training.get("learning_rate"))
        figures = dict.fromkeys(compare.FIGURES, 0.5)
        rate = spec.training.get("learning_rate", 0.0)
        return {**figures, "dev_accuracy": 0.5 + rate, "curve": None, "seconds": 1.0}

    monkeypatch.setattr(compare._Plan, "_execute", execute)
    stream = stream_from_rows({n: classified(["billing", n], 20) for n in ("garden", "music")})
    lines = []
    compare_strategies(stream, output=tmp_path, seeds=[0, 1], report=lines.append)
    begun = [line for line in lines if " run" in line]
    left = [int(line.partition("(")[2].split()[0]) for line in begun]
    assert left == list(range(12, 0, -1))
    assert begun[-1].startswith("replay, seed 1 (1 run, about")
    assert [line.partition(",")[0] for line in begun[2:5]] == [
        f"naive-tuned at {rate:g}" for rate in compare.RATES
    ]
    assert begun[5].startswith("naive-tuned, seed 1")
    assert rates[2:6] == [*compare.RATES, max(compare.RATES)]


def test_what_needs_more_than_the_task_gives_is_refused_before_anything_runs(tmp_path, tiny_model):
    rows = {name: tagged(["city"], 20, seed=seed) for seed, name in enumerate(("one", "two"))}
    stream = stream_from_rows(rows, task="token-classification")
    with pytest.raises(ConfigError, match="'icarl' needs class-sums") as caught:
        compare_strategies(
            stream, output=tmp_path, strategies=["icarl"], base=str(tiny_model), only=True
        )
    assert caught.value.where == "--strategy"


def test_a_reference_that_the_task_cannot_have_is_left_out(tmp_path, monkeypatch):
    from contlearn.benchmark import compare
    from contlearn.plugins import hookimpl
    from contlearn.plugins.manager import PluginManager
    from contlearn.tasks.text_classification import TextClassification

    class Plugin:
        @hookimpl
        def contlearn_register_tasks(self):
            given = {"name": "bare", "gives": frozenset({"confidence"})}
            return [type("Bare", (TextClassification,), given)]

    manager = PluginManager(discover=False)
    manager.register(Plugin(), name="bare", distribution="test")
    figures = {**dict.fromkeys(compare.FIGURES, 0.5), "dev_accuracy": 0.5, "curve": None}
    monkeypatch.setattr(compare._Plan, "_execute", lambda *_: {**figures, "seconds": 1.0})
    rows = {n: classified(["billing", n], 20) for n in ("garden", "music")}
    stream = stream_from_rows(rows, task="bare", manager=manager)
    lines = []
    found = compare_strategies(
        stream, output=tmp_path, seeds=[0], manager=manager, report=lines.append
    )
    assert {row.name for row in found.summaries} == {"naive", "naive-tuned", "joint", "replay"}
    assert lines[0] == (
        "frozen-head is left out: 'frozen-head' needs classes; the task 'bare' does not give that."
    )
