import pytest

from contlearn.config import CONFIG_FILE, Config, load_config, parse_duration, render_default
from contlearn.errors import ConfigError, WorkspaceError
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification


def write(tmp_path, text):
    (tmp_path / CONFIG_FILE).write_text(text, encoding="utf-8")
    return tmp_path


def test_default_file_is_valid_for_both_tasks(tmp_path):
    for task in (TextClassification, TokenClassification):
        text = render_default(name="a", task=task.name, base="b", fields=task.fields)
        write(tmp_path, text)
        assert load_config(tmp_path, environ={}).config.model.task == task.name


def test_missing_file_names_init(tmp_path):
    with pytest.raises(WorkspaceError, match="contlearn init"):
        load_config(tmp_path, environ={})


def test_unknown_key_suggests_the_near_name(tmp_path):
    write(tmp_path, "[training]\nlearning_rat = 0.1\n")
    with pytest.raises(ConfigError, match="Did you mean training.learning_rate"):
        load_config(tmp_path, environ={})


def test_unknown_section_suggests_the_near_name(tmp_path):
    write(tmp_path, "[trainig]\nepochs = 1\n")
    with pytest.raises(ConfigError, match="Did you mean training"):
        load_config(tmp_path, environ={})


def test_all_problems_are_reported_together(tmp_path):
    write(tmp_path, "[training]\nepochs = 0\nseed = 'x'\n[gate]\nmargin = -1.0\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environ={})
    text = str(caught.value)
    assert "3 problems" in text
    assert all(key in text for key in ("training.epochs", "training.seed", "gate.margin"))


def test_broken_toml_names_the_line(tmp_path):
    write(tmp_path, "[model\n")
    with pytest.raises(ConfigError, match="line 1"):
        load_config(tmp_path, environ={})


def test_flag_beats_variable_beats_file_beats_default(tmp_path):
    write(tmp_path, "[training]\nepochs = 4\nseed = 5\nbatch_size = 8\n")
    loaded = load_config(
        tmp_path,
        environ={"CONTLEARN_TRAINING__SEED": "6", "CONTLEARN_TRAINING__BATCH_SIZE": "9"},
        overrides={"training.batch_size": 10},
    )
    training = loaded.config.training
    assert (training.epochs, training.seed, training.batch_size) == (4, 6, 10)
    assert loaded.origins["training.epochs"] == "file"
    assert loaded.origins["training.seed"] == "variable CONTLEARN_TRAINING__SEED"
    assert loaded.origins["training.batch_size"] == "flag"
    assert "training.dropout" not in loaded.origins


def test_variable_with_a_bare_text_is_that_text(tmp_path):
    write(tmp_path, "")
    loaded = load_config(tmp_path, environ={"CONTLEARN_MODEL__NAME": "support-intents"})
    assert loaded.config.model.name == "support-intents"


def test_variable_with_an_unknown_key_is_refused_with_its_name(tmp_path):
    write(tmp_path, "")
    with pytest.raises(ConfigError, match="CONTLEARN_MODEL__NAM"):
        load_config(tmp_path, environ={"CONTLEARN_MODEL__NAM": "x"})


def test_variable_of_the_workspace_is_no_configuration(tmp_path):
    write(tmp_path, "")
    assert load_config(tmp_path, environ={"CONTLEARN_WORKSPACE": "x"}).config == Config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604800), (12, 12), ("3", 3)],
)
def test_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-1", -3, True, "1y", ""])
def test_duration_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_label_named_twice_is_refused(tmp_path):
    write(tmp_path, '[data]\nlabels = ["a", "a"]\n')
    with pytest.raises(ConfigError, match="twice"):
        load_config(tmp_path, environ={})
