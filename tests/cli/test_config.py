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
