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
    assert "'bad' is required but could not be loaded" in ran.err


def test_two_plugins_with_one_name_are_an_error_naming_both(run, tmp_path, workspace):
    (tmp_path / "one.py").write_text(GOOD)
    (tmp_path / "two.py").write_text(GOOD)
    ran = run("--workspace", workspace.root, "--plugins-dir", tmp_path, "plugins", "list")
    assert ran.code == 2
    assert "Two plugins register the gate rule 'shout'." in ran.err
    assert "one.py" in ran.err
    assert "two.py" in ran.err


def test_installed_plugin_is_found_through_its_entry_point(run):
    value = json.loads(run("plugins", "list", "--json").out)
    found = next(p for p in value["plugins"] if p["name"] == "protected-labels")
    assert found["distribution"] == "contlearn-protected-labels"
    assert "gate rule protected-labels" in found["registers"]
