import re

from contlearn.cli import COMMANDS


def test_help_lists_every_command(run):
    ran = run("--help")
    assert ran.code == 0
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary.split()[0])}", ran.out, re.MULTILINE)


def test_every_command_has_help_of_its_own(run):
    for name in COMMANDS:
        ran = run(name, "-h")
        assert ran.code == 0, (name, ran)
        assert ran.out.startswith(f"Usage: contlearn {name}")


def test_unknown_command_suggests_the_near_one(run):
    ran = run("udpate")
    assert ran.code == 2
    assert "There is no command 'udpate'. Did you mean 'update'?" in ran.err


def test_folder_that_is_no_workspace_says_what_to_do(run, tmp_path):
    ran = run("--workspace", tmp_path, "status")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err == (
        f"Error: There is no contlearn.toml in {tmp_path}.\n"
        f"  where: {tmp_path}/contlearn.toml\n"
        "  to do: Run `contlearn init DIR`, or name a workspace with --workspace DIR.\n"
    )


def test_error_is_one_json_object_where_json_was_asked_for(run, tmp_path):
    import json

    ran = run("--workspace", tmp_path, "status", "--json")
    assert set(json.loads(ran.out)) == {"error", "where", "hint"}


def test_unknown_key_is_named_with_the_near_one(in_workspace, workspace):
    workspace.config_file.write_text("[training]\nepoch = 3\n")
    ran = in_workspace("update")
    assert ran.code == 2
    assert "Unknown key training.epoch. Did you mean training.epochs?" in ran.err


def test_unknown_strategy_is_named_before_anything_runs(in_workspace, workspace):
    workspace.config_file.write_text('[training]\nstrategy = "repaly"\n')
    ran = in_workspace("update")
    assert ran.code == 2
    assert "There is no strategy 'repaly'." in ran.err
    assert "Did you mean 'replay'?" in ran.err


def test_unknown_option_of_a_regularizer_is_named(in_workspace, workspace):
    workspace.config_file.write_text('[[training.regularizers]]\nname = "lwf"\nalpa = 1.0\n')
    ran = in_workspace("update")
    assert ran.code == 2
    assert "lwf" in ran.err
    assert "alpha" in ran.err
