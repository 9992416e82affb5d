"""`contlearn notify` and `contlearn update --request`, against a real listener."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from contlearn.cli import cli, main
from contlearn.context import Context
from contlearn.cycle.causes import read_request
from contlearn.notifications.signing import decode_secret
from tests.listening import HttpListener


@pytest.fixture
def listener():
    with HttpListener().running() as running:
        yield running


def run(workspace, *arguments, code=0):
    from contlearn.errors import ContlearnError

    result = CliRunner().invoke(cli, ["--workspace", str(workspace.root), *arguments], standalone_mode=False)  # fmt: skip
    if isinstance(result.exception, ContlearnError):
        raise result.exception
    assert (result.return_value or 0) == code, (result.output, result.exception)
    return result.output


def configure(workspace, url):
    with workspace.config_file.open("a") as file:
        file.write(
            f'[[notifications.channels]]\nname = "ops"\nkind = "webhook"\nurl = "{url}"\n'
            '[[notifications.channels]]\nname = "run"\nkind = "command"\ncommand = ["false"]\n'
        )


def test_test_says_which_channel_took_it(workspace, listener):
    configure(workspace, listener.url)
    shown = run(workspace, "notify", "test", code=1)
    assert shown == "ops: told (HTTP 204)\nrun: NOT told (exit code 1)\n"
    value = json.loads(run(workspace, "notify", "test", "ops", "--json"))
    assert value == {"channels": [{"channel": "ops", "ok": True, "said": "HTTP 204"}]}
    assert json.loads(listener.requests[1][1])["type"] == "contlearn.test"


def test_unknown_channel_and_no_channel_are_said(workspace, listener):
    with pytest.raises(Exception, match="There is no channel"):
        run(workspace, "notify", "test")
    configure(workspace, listener.url)
    with pytest.raises(Exception, match="There is no channel 'opps'"):
        run(workspace, "notify", "test", "opps")


def test_secret_is_one_that_can_be_used(workspace):
    assert len(decode_secret(run(workspace, "notify", "secret"), where="x")) == 32


def test_send_tells_what_waits_without_a_daemon(workspace, listener):
    from contlearn.operations.notify import tell

    configure(workspace, listener.url)
    assert run(workspace, "notify", "send") == "0 told, 0 failed, 0 messages wait.\n"
    with Context.open(workspace.root) as context:
        tell(context, "alert", "x", subject="s", reason="r")
    value = json.loads(run(workspace, "notify", "send", "--json", code=1))
    assert value == {"new": 0, "told": 1, "failed": 1, "waiting": 1}


def test_request_waits_for_the_daemon(workspace):
    shown = run(workspace, "update", "--request", "--reason", "before the fair")
    assert "No daemon watches this workspace now" in shown
    value = json.loads(run(workspace, "update", "--request", "--json"))
    assert value["request"] in shown
    assert value["daemon_running"] is False


def test_dry_run_of_a_request_asks_for_nothing(workspace):
    shown = run(workspace, "update", "--request", "--dry-run")
    assert shown.startswith("An update would be asked for.\n")
    value = json.loads(run(workspace, "update", "--request", "--dry-run", "--json"))
    assert (value["request"], value["dry_run"]) == (None, True)
    with Context.open(workspace.root) as context:
        assert read_request(context.catalog) is None
    asked = json.loads(run(workspace, "update", "--request", "--json"))["request"]
    again = json.loads(run(workspace, "update", "--request", "--dry-run", "--json"))
    assert again["request"] == asked  # it waits already


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--request", "--strategy", "naive"], "--request does not go with --strategy:"),
        (
            ["--request", "--force", "--no-promote"],
            "--request does not go with --force and --no-promote:",
        ),
        (["--request", "--run-key", "x"], "--request does not go with --run-key:"),
        (["--reason", "why not"], "--reason goes with --request only."),
    ],
)
def test_options_that_a_request_cannot_keep_are_refused(workspace, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(workspace.root), "update", *arguments])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
