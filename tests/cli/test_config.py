import json

import jsonschema


def test_show_prints_values_with_their_origin(in_workspace, monkeypatch):
    monkeypatch.setenv("CONTLEARN_TRAINING__EPOCHS", "7")
    value = json.loads(in_workspace("config", "show", "--json").out)
    assert value["config"]["training"]["epochs"] == 7
    assert value["origins"]["training.epochs"] == "variable CONTLEARN_TRAINING__EPOCHS"
    assert value["origins"]["model.name"] == "file"
    assert value["origins"]["gate.margin"] == "default"


def test_show_prints_a_table(in_workspace):
    lines = in_workspace("config", "show").out.splitlines()
    assert lines[0].split() == ["key", "value", "from"]
    assert ["model.name", '"test"', "file"] in [line.split() for line in lines]


def test_schema_is_a_json_schema_that_the_default_fits(run):
    from contlearn.config import Config

    ran = run("config", "schema")
    schema = json.loads(ran.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(Config().model_dump(mode="json"), schema)


def test_explain_prints_one_key(run):
    ran = run("config", "explain", "gate.margin")
    assert ran.out == (
        "\ngate.margin (number; above 0; default 0.03)\n"
        "  How much of the metric may be lost on what was known: a share from 0 to 1, or in the "
        "metric's unit.\n"
    )


def test_explain_without_a_name_lists_the_sections(run):
    assert [line.split()[0] for line in run("config", "explain").out.splitlines()[:3]] == [
        "section",
        "model",
        "data",
    ]
    names = [item["section"] for item in json.loads(run("config", "explain", "--json").out)]
    assert "data.limits" in names


def test_explain_of_an_unknown_key_names_a_near_one(run):
    ran = run("config", "explain", "gate.margn")
    assert ran.code == 2
    assert "gate.margin" in ran.err


def test_explain_completes_keys():
    from click.shell_completion import ShellComplete

    from contlearn.cli import cli

    found = ShellComplete(cli, {}, "contlearn", "_X").get_completions(
        ["config", "explain"], "gate.m"
    )
    assert [item.value for item in found] == [
        "gate.metric",
        "gate.margin",
        "gate.min_evidence_rows",
        "gate.min_gain",
    ]
