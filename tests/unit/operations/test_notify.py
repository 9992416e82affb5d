"""From what happened to messages: each event once, whoever did it and whatever was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contlearn.cycle.changes import roll_back
from contlearn.notifications.messages import Message, render
from contlearn.operations.notify import collect, open_outbox, tell
from tests.scripted import drop, make_workspace, open_watch

CHANNEL = """
[notifications]
channels = [{name = "c", kind = "command", command = ["true"]}]
"""


@pytest.fixture
def watch(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    made = open_watch(make_workspace(tmp_path / "ws", CHANNEL))
    made.begin()
    yield made
    made.context.close()


def told(watch):
    sent = watch.context.workspace.outbox / "sent"
    found = [json.loads(path.read_bytes()) for path in sent.glob("*.json")]
    return sorted((value["at"], value["kind"]) for value in found)


def kinds(watch):
    return [kind for _, kind in told(watch)]


def turn(watch, label, count=12):
    drop(watch.context.workspace, label, count)
    watch.context.clock.sleep(5000)
    watch.step()
    watch.context.clock.sleep(10)
    watch.step()


def test_promotions_refusals_failures_and_rollbacks_are_told_once_each(watch):
    watch.step()  # from here on
    turn(watch, "calm")
    turn(watch, "bad")
    turn(watch, "calm")  # refused a second time with it, and held
    turn(watch, "calm")
    roll_back(watch.context, hold=True, actor="ada", reason="by hand")
    watch.context.clock.sleep(10)
    watch.step()
    watch.step()
    assert kinds(watch) == ["promoted", "refused", "refused", "promoted", "rolled-back"]
    sent = watch.context.workspace.outbox / "sent"
    (back,) = [json.loads(p.read_bytes()) for p in sent.glob("*rolled-back*")]
    assert (back["data"]["version"], back["data"]["actor"]) == (1, "ada")
    refused = [json.loads(p.read_bytes()) for p in sent.glob("*refused*")]
    assert {value["data"]["reason"] for value in refused} == {"no better than guesses"}


def test_kept_update_is_told_as_information(watch):
    watch.step()
    turn(watch, "calm")
    turn(watch, "meh")
    assert kinds(watch) == ["promoted", "kept"]
    (path,) = (watch.context.workspace.outbox / "sent").glob("*kept*")
    value = json.loads(path.read_bytes())
    message = Message(
        message_id="m", kind="kept", at=watch.context.clock.now(), model="test", workspace="w",
        data=value["data"],
    )  # fmt: skip
    title, text = render(watch.context.config.notifications.channels[0], message)
    assert title == "test: version 1 stays, an update was not worth the change"
    assert "are learnt with what comes next. It changes next to nothing." in text


def test_what_was_before_the_first_look_is_not_told(watch, tmp_path):
    turn(watch, "calm")
    for path in (watch.context.workspace.outbox / "sent").glob("*"):
        path.unlink()
    with watch.context.catalog.write() as connection:
        connection.exec_driver_sql("delete from triggers where name = 'notifications'")
    assert collect(watch.context) == 0
    assert kinds(watch) == []


def test_message_that_was_written_before_a_kill_is_not_written_twice(watch):
    watch.step()
    turn(watch, "calm")
    assert kinds(watch) == ["promoted"]
    with watch.context.catalog.write() as connection:  # as if killed before the mark was written
        connection.exec_driver_sql(
            "update triggers set detail = '{\"cycle\": 0, \"change\": 0}' where name = 'notifications'"
        )
    assert collect(watch.context) == 0
    assert open_outbox(watch.context).count() == 0


def test_nobody_listens_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    watch = open_watch(make_workspace(tmp_path / "ws"))
    watch.begin()
    turn(watch, "calm")
    assert tell(watch.context, "alert", "x") is False
    assert not watch.context.workspace.outbox.exists()
    watch.context.close()


def test_channels_are_in_no_manifest_and_no_job(watch):
    turn(watch, "calm")
    root = watch.context.workspace.root
    for path in [*root.glob("versions/*/manifest.json"), *root.glob("state/cycles/*/job.json")]:
        assert "notifications" not in json.loads(path.read_bytes()).get("config", {})
