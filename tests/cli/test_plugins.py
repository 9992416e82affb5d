import json

GOOD = """
from pydantic import BaseModel, ConfigDict
from contlearn.plugins import hookimpl


class Shout:
    name = "shout"
    summary = "says it loudly"

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def judge(self, evidence):
        return ()


@hookimpl
def contlearn_register_gate_rules():
    return [Shout]


@hookimpl
def contlearn_register_commands(cli):
    import click

    @cli.command("shout", help="Shout.")
    def shout():
        click.echo("HELLO")
"""


def test_list_shows_the_built_in_classes(run):
    value = json.loads(run("plugins", "list", "--json").out)
    own = next(p for p in value["plugins"] if p["name"] == "contlearn")
    assert "task text-classification" in own["registers"]
    assert "strategy replay" in own["registers"]


def test_check_finds_nothing_wrong_with_the_built_ins(run):
    ran = run("plugins", "check", "--json")
    assert json.loads(ran.out) == {"problems": []}
    assert ran.code == 0


def test_loose_plugin_adds_a_rule_and_a_command(run, tmp_path):
    (tmp_path / "shout.py").write_text(GOOD)
    assert "gate rule shout" in run("--plugins-dir", tmp_path, "plugins", "list").out
    assert run("--plugins-dir", tmp_path, "shout").out == "HELLO\n"
    assert "Shout." in run("--plugins-dir", tmp_path, "--help").out


def test_broken_plugin_does_not_stop_the_program_and_is_shown(run, tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    assert run("--plugins-dir", tmp_path, "--help").code == 0
    shown = run("--plugins-dir", tmp_path, "plugins", "list")
    assert "FAILED" in shown.out
    assert "nothing_of_this_name" in shown.out
    assert run("--plugins-dir", tmp_path, "plugins", "check").code == 1


def test_broken_plugin_that_is_required_is_an_error(run, tmp_path, workspace):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    workspace.config_file.write_text('[plugins]\nrequired = ["bad"]\n')
    ran = run("--workspace", workspace.root, "--plugins-dir", tmp_path, "status")
    assert ran.code == 2
    assert "'bad' is required but broken: ModuleNotFoundError" in ran.err


def test_two_plugins_with_one_name_are_listed_as_broken_and_their_class_is_not_there(
    run, tmp_path, workspace
):
    (tmp_path / "one.py").write_text(GOOD)
    (tmp_path / "two.py").write_text(GOOD)
    shown = run("--plugins-dir", tmp_path, "plugins", "list", "--json")
    rows = {row["name"]: row for row in json.loads(shown.out)["plugins"]}
    for name in ("one", "two"):
        assert rows[name]["registers"] == []
        assert "Two plugins register the gate rule 'shout' (" in rows[name]["error"]
        assert "Two plugins register the command 'shout' (" in rows[name]["error"]
    with workspace.config_file.open("a") as file:
        file.write('[gate]\nrules = ["shout"]\n')
    ran = run("--workspace", workspace.root, "--plugins-dir", tmp_path, "update")
    assert ran.code == 2
    assert "There is no gate rule 'shout'." in ran.err
    assert "one.py and " in ran.err


def test_command_of_a_plugin_takes_the_place_of_no_built_in_one(run, tmp_path, workspace):
    (tmp_path / "takes.py").write_text(GOOD.replace('command("shout"', 'command("status"'))
    ran = run("--workspace", workspace.root, "--plugins-dir", tmp_path, "status")
    assert "none yet" in ran.out
    error = "Its command 'status' has the name of one of contlearn's."
    assert error in run("--plugins-dir", tmp_path, "plugins", "list", "--json").out


def test_installed_plugin_is_found_through_its_entry_point(run):
    value = json.loads(run("plugins", "list", "--json").out)
    found = next(p for p in value["plugins"] if p["name"] == "protected-labels")
    assert found["distribution"] == "contlearn-protected-labels"
    assert "gate rule protected-labels" in found["registers"]
