"""The regular look, in a real child."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contlearn.cli import main
from contlearn.context import Context
from contlearn.daemon.watching import Watcher
from contlearn.errors import ContlearnError, EvaluationError, PluginError
from contlearn.monitoring.signals import MAX_LOOKS, read_looks, read_signals, signals_path
from contlearn.operations.drift import look, look_and_record, record_look
from tests.logged import log_answers, logged_workspace


@pytest.fixture
def context(tmp_path):
    with logged_workspace(tmp_path / "ws") as opened:
        yield opened


@pytest.mark.slow
def test_watcher_looks_only_when_something_is_new(context):
    watcher = Watcher(context)
    assert watcher.look() is False  # nothing was ever answered
    log_answers(context, 150, seed=1)
    assert watcher.look() is True
    assert read_signals(context.workspace.state).look == 0  # too little to judge
    assert watcher.look() is False
    log_answers(context, 600, seed=2, minutes=60, labels=0.5)
    assert watcher.look() is True
    signals = read_signals(context.workspace.state)
    assert (signals.look, signals.version, signals.window_records) == (1, 1, 375)
    assert signals.measured.records > 100


def test_watcher_tells_the_error_that_ended_a_look(context, tmp_path):
    log_answers(context, 300, seed=1)
    watcher, folder = Watcher(context), tmp_path / "plugins"
    context.manager.folder = folder
    with pytest.raises(PluginError, match="There is no folder .*/plugins"):
        watcher.look()
    folder.mkdir()
    assert watcher.look() is True  # what could not be seen is looked at again


def test_watcher_says_where_the_words_of_a_broken_look_are(context):
    log_answers(context, 300, seed=1)
    signals = signals_path(context.workspace.state)
    signals.unlink(missing_ok=True)
    signals.mkdir(parents=True)  # where the look wants to write
    with pytest.raises(ContlearnError, match="IsADirectoryError") as caught:
        Watcher(context).look()
    assert caught.value.where.endswith("look.log")
    assert caught.value.hint.startswith("The log has the traceback.")
    assert str(signals) in signals.with_name("look.log").read_text()


BROKEN = """
from contlearn.errors import EvaluationError
from contlearn.plugins import hookimpl

class Broken:
    name, summary, needs = "broken", "measures nothing", ()

    def __init__(self, reference, *, nulls, seed=17):
        raise EvaluationError("It measures nothing.", where="broken")

@hookimpl
def contlearn_register_detectors():
    return [Broken]
"""


def test_error_of_a_measure_is_no_empty_look(context, tmp_path):
    log_answers(context, 400, seed=1)
    record_look(context, look(context))
    before = read_signals(context.workspace.state)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text(BROKEN)
    with Context.open(context.workspace.root, plugins_dir=tmp_path / "plugins") as opened:
        for record in (Watcher(opened).look, lambda: look_and_record(opened)):
            with pytest.raises(EvaluationError, match="It measures nothing") as caught:
                record()
            assert type(caught.value) is EvaluationError
    assert read_signals(context.workspace.state) == before


def test_watcher_works_with_the_configuration_in_force_whatever_the_file_says(context):
    log_answers(context, 300, seed=1)
    context.workspace.config_file.write_text("[model]\nname = 7\n")
    assert Watcher(context).look() is True


def test_history_of_looks_is_bounded_and_a_look_stands_in_it_once(context):
    log_answers(context, 600, seed=1)
    value = look(context)
    record_look(context, value)
    record_look(context, value)
    (line,) = read_looks(context.workspace.state)
    assert (line["look"], line["detected"], line["version"]) == (1, False, 1)
    path = signals_path(context.workspace.state).with_name("looks.jsonl")
    path.write_text("not json\n" + '{"look": 9}\n' * (MAX_LOOKS + 50))
    record_look(context, value)
    assert len(read_looks(context.workspace.state)) == MAX_LOOKS
    assert read_looks(context.workspace.state)[-1]["look"] == 1


def scrape(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_command_shows_the_look_and_writes_a_textfile(context, tmp_path, capsys):
    from contlearn.registry.promotion import promote
    from tests.unit.registry.staged import well

    context.registry.preflight = well
    promote(context.registry, 1, actor="ada", reason="test")
    log_answers(context, 700, seed=1, labels=1.0)
    log_answers(context, 400, seed=2, minutes=60, sure=(3, 3), labels=1.0, wrong=0.6)
    record_look(context, look(context))
    arguments = ["--workspace", str(context.workspace.root), "metrics"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    values = scrape(capsys.readouterr().out)
    assert values["contlearn_drift_alarm", "tickets"] == 1
    assert values["contlearn_drift_consecutive_looks", "tickets"] == 1
    assert values["contlearn_accuracy_dropped", "measured", "tickets"] == 1
    low, point, high = (
        values["contlearn_estimated_accuracy_ratio", bound, "tickets"]
        for bound in ("lower", "point", "upper")
    )
    assert low < point < high < values["contlearn_held_out_accuracy_ratio", "tickets"]
    assert values["contlearn_measured_accuracy_records", "tickets"] == 500
    assert values["contlearn_drift_detected", "ks-confidence", "tickets", "prediction"] == 1
    assert values["contlearn_drift_p_value", "ks-confidence", "tickets", "prediction"] < 0.01
    path = tmp_path / "contlearn.prom"
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--textfile", str(path)])
    assert ended.value.code == 0
    assert scrape(path.read_text())["contlearn_drift_alarm", "tickets"] == 1
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--textfile", str(tmp_path / "x.txt")])
    assert ended.value.code == 2
