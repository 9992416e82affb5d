"""Messages reach real listeners, each at least once and in order, whatever fails in between."""

from __future__ import annotations

import email
import email.policy
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from contlearn.config import ChannelConfig
from contlearn.errors import StorageError, UsageError
from contlearn.notifications.messages import Message
from contlearn.notifications.outbox import Outbox
from contlearn.notifications.signing import new_secret
from contlearn.testing import FakeClock
from contlearn.workspace import SystemClock
from tests.listening import HttpListener, MailListener

AT = datetime(2030, 1, 1, tzinfo=UTC)
DAY = 86400.0


@pytest.fixture
def clock():
    return FakeClock(AT)


@pytest.fixture
def outbox(tmp_path, clock):
    return Outbox(tmp_path / "outbox", root=tmp_path, clock=clock)


def message(name="m1", kind="promoted", **data):
    data = {"version": 3, "previous": 2, "reason": "better", **data}
    return Message(message_id=name, kind=kind, at=AT, model="tickets", workspace="/w", data=data)


def webhook(url, **more):
    return ChannelConfig(name="hook", kind="webhook", url=url, **more)


@pytest.fixture
def listener():
    with HttpListener().running() as running:
        yield running


def test_webhook_is_verified_by_the_reference_library(tmp_path, listener):
    webhooks = pytest.importorskip("standardwebhooks")
    secret = new_secret()
    (tmp_path / "secret.txt").write_text(secret + "\n")
    outbox = Outbox(tmp_path / "outbox", root=tmp_path, clock=SystemClock())
    outbox.add(message())
    channel = webhook(listener.url, secret_file="secret.txt")
    ((name, told, delivery),) = outbox.post([channel], max_age_seconds=1e9)
    assert (name, told, delivery.ok) == ("hook", "m1", True)
    headers, body = listener.requests[0]
    value = webhooks.Webhook(secret).verify(body, headers)
    assert value["type"] == "contlearn.promoted"
    assert value["data"]["version"] == 3
    assert headers["webhook-id"] == "m1"
    with pytest.raises(webhooks.WebhookVerificationError):
        webhooks.Webhook(new_secret()).verify(body, headers)


def test_old_and_new_secret_both_sign_while_they_are_exchanged(tmp_path, listener):
    webhooks = pytest.importorskip("standardwebhooks")
    old, new = new_secret(), new_secret()
    (tmp_path / "secret.txt").write_text(f"{new}\n{old}\n")
    outbox = Outbox(tmp_path / "outbox", root=tmp_path, clock=SystemClock())
    outbox.add(message())
    outbox.post([webhook(listener.url, secret_file="secret.txt")], max_age_seconds=1e9)
    headers, body = listener.requests[0]
    for secret in (old, new):
        webhooks.Webhook(secret).verify(body, headers)


def test_failed_message_is_repeated_with_growing_pauses_and_the_same_id(outbox, clock, listener):
    listener.answers = [500, 503]
    outbox.add(message())
    channel, tried = webhook(listener.url), []
    for _ in range(200):
        tried += [clock.now() for _ in outbox.post([channel], max_age_seconds=DAY)]
        clock.sleep(1)
    assert [(moment - AT).total_seconds() for moment in tried] == [0, 5, 65]
    assert {headers["webhook-id"] for headers, _ in listener.requests} == {"m1"}
    assert outbox.count() == 0
    assert outbox.add(message()) is False  # told is told


def test_message_is_given_up_when_it_is_too_old(outbox, clock):
    outbox.add(message())
    channel = webhook("http://127.0.0.1:9/")  # nobody listens there
    tries = 0
    for _ in range(80):
        tries += len(outbox.post([channel], max_age_seconds=DAY))
        clock.sleep(1800)
    assert 5 < tries < 20
    (sent,) = outbox.sent.glob("*.json")
    assert json.loads(sent.read_text())["channels"]["hook"]["done"] == "given up"


def test_receiver_that_is_gone_is_not_asked_again(outbox, clock, listener):
    listener.answers = [410]
    outbox.add(message())
    outbox.post([webhook(listener.url)], max_age_seconds=DAY)
    clock.sleep(3600)
    assert outbox.post([webhook(listener.url)], max_age_seconds=DAY) == []
    assert len(listener.requests) == 1


def test_redirect_is_not_followed(outbox, listener):
    listener.answers = [302]
    outbox.add(message())
    ((_, _, delivery),) = outbox.post([webhook(listener.url)], max_age_seconds=DAY)
    assert (delivery.ok, delivery.said) == (False, "HTTP 302")
    assert len(listener.requests) == 1


def test_one_channel_that_fails_does_not_repeat_the_others(outbox, clock, listener):
    listener.answers = [204, 500]
    outbox.add(message())
    both = [
        webhook(listener.url),
        ChannelConfig(name="chat", kind="slack", url=listener.url),
    ]
    outbox.post(both, max_age_seconds=DAY)
    clock.sleep(6)
    tries = outbox.post(both, max_age_seconds=DAY)
    assert [(name, delivery.ok) for name, _, delivery in tries] == [("chat", True)]
    assert len(listener.requests) == 3


def test_slack_body_has_text_and_blocks_and_nothing_that_means_something(outbox, listener):
    outbox.add(message(reason="<!channel> & more"))
    outbox.post([ChannelConfig(name="chat", kind="slack", url=listener.url)], max_age_seconds=DAY)
    value = json.loads(listener.requests[0][1])
    assert value["text"].startswith("*tickets: version 3 is served*\n")
    assert "&lt;!channel&gt; &amp; more" in value["text"]
    assert [block["type"] for block in value["blocks"]] == ["header", "section"]


def test_mail_is_taken_by_a_real_server(outbox):
    with MailListener().running() as server:
        channel = ChannelConfig(
            name="mail", kind="email", host="127.0.0.1", port=server.port,
            sender="contlearn@example.org", to=("ada@example.org", "bob@example.org"),
            title="[$model] $kind: größer\nBcc: eve@example.org",
        )  # fmt: skip
        outbox.add(message())
        ((_, _, delivery),) = outbox.post([channel], max_age_seconds=DAY)
    assert delivery.ok, delivery
    (envelope,) = server.mails
    assert envelope.rcpt_tos == ["ada@example.org", "bob@example.org"]
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert mail["Subject"] == "[tickets] promoted: größer Bcc: eve@example.org"
    assert mail["Bcc"] is None
    assert mail["Message-ID"] == "<m1@example.org>"
    assert "Version 3 took over from version 2. better" in mail.get_content()


def test_mail_server_that_is_away_is_tried_again(outbox, clock):
    channel = ChannelConfig(
        name="mail", kind="email", host="127.0.0.1", port=9, sender="a@b.c", to=("d@e.f",)
    )
    outbox.add(message())
    ((_, _, delivery),) = outbox.post([channel], max_age_seconds=DAY)
    assert not delivery.ok
    assert delivery.again
    assert outbox.count() == 1


def test_command_gets_the_body_and_the_words(outbox, tmp_path):
    program = tmp_path / "hear.py"
    program.write_text(
        "import json, os, pathlib, sys\n"
        "value = json.load(sys.stdin)\n"
        f"pathlib.Path({str(tmp_path / 'heard')!r}).write_text(os.environ['CONTLEARN_TITLE'] + value['type'])\n"
    )
    channel = ChannelConfig(name="run", kind="command", command=(sys.executable, str(program)))
    outbox.add(message())
    outbox.post([channel], max_age_seconds=DAY)
    assert (tmp_path / "heard").read_text() == "tickets: version 3 is servedcontlearn.promoted"


def test_command_that_fails_or_hangs_is_no_catastrophe(outbox, clock):
    slow = ("python3", "-c", "import time; time.sleep(60)")
    outbox.add(message())
    for command, said in (
        (("false",), "exit code 1"),
        (("/no/such/program",), "FileNotFoundError"),
        (slow, "TimeoutExpired"),
    ):
        channel = ChannelConfig(name=f"c{len(said)}", kind="command", command=command, timeout=1)
        ((_, _, delivery),) = outbox.post([channel], max_age_seconds=DAY)
        assert said in delivery.said


def test_channel_hears_only_what_it_wants(outbox, listener):
    channel = webhook(listener.url, events=("roll*", "alert"))
    for number, kind in enumerate(("promoted", "rolled-back", "alert", "test")):
        outbox.add(message(f"m{number}", kind))
    outbox.post([channel], max_age_seconds=DAY)
    heard = [json.loads(body)["type"] for _, body in listener.requests]
    assert heard == ["contlearn.rolled-back", "contlearn.alert", "contlearn.test"]
    assert outbox.count() == 0


def test_missing_or_wrong_secret_is_said_and_tried_again(outbox, tmp_path, listener):
    outbox.add(message())
    for text in (None, "", "whsec_???"):
        if text is not None:
            (tmp_path / "secret.txt").write_text(text)
        ((_, _, delivery),) = outbox.post(
            [webhook(listener.url, secret_file="secret.txt")], max_age_seconds=DAY, at_once=True
        )
        assert not delivery.ok
        assert "secret" in delivery.said
    assert listener.requests == []


def test_clock_set_back_does_not_hold_a_message_up(outbox, clock, listener):
    listener.answers = [500]
    outbox.add(message())
    outbox.post([webhook(listener.url)], max_age_seconds=1e9)
    clock.jump(-400 * DAY)
    assert len(outbox.post([webhook(listener.url)], max_age_seconds=1e9)) == 1


def test_message_survives_a_kill_between_two_channels(tmp_path, listener):
    """The process is killed by the second channel's program: the first is not told twice."""
    outbox = Outbox(tmp_path / "outbox", root=tmp_path, clock=SystemClock())
    outbox.add(message())
    code = (
        "import sys, pathlib\n"
        "from contlearn.notifications.outbox import Outbox\n"
        "from contlearn.config import ChannelConfig\n"
        "from contlearn.workspace import SystemClock\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "kill = ('sh', '-c', 'kill -9 $PPID')\n"
        "Outbox(root / 'outbox', root=root, clock=SystemClock()).post([\n"
        f"    ChannelConfig(name='hook', kind='webhook', url={listener.url!r}),\n"
        "    ChannelConfig(name='kill', kind='command', command=kill)], max_age_seconds=1e9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ})
    assert done.returncode == -9
    assert len(listener.requests) == 1
    channels = [
        webhook(listener.url),
        ChannelConfig(name="kill", kind="command", command=("true",)),
    ]
    tries = outbox.post(channels, max_age_seconds=1e9)
    assert [name for name, _, _ in tries] == ["kill"]
    assert len(listener.requests) == 1
    assert outbox.count() == 0


def test_damaged_message_is_put_aside_and_the_others_go(outbox, listener):
    outbox.add(message())
    (outbox.folder / "x.json").write_text("{")
    assert len(outbox.post([webhook(listener.url)], max_age_seconds=DAY)) == 1
    assert (outbox.folder / "x.damaged").exists()


def test_name_that_leaves_the_folder_is_refused(outbox):
    with pytest.raises(UsageError):
        outbox.add(message("../m1"))


def test_full_disk_is_said_and_nothing_is_added(tmp_path, clock):
    (tmp_path / "outbox").write_text("a file stands where the folder should be")
    outbox = Outbox(tmp_path / "outbox", root=tmp_path, clock=clock)
    with pytest.raises((StorageError, OSError)):
        outbox.add(message())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "webhook"}, "either url or url_file"),
        ({"kind": "webhook", "url": "ftp://x/"}, "http"),
        ({"kind": "email", "host": "h"}, "sender, to"),
        ({"kind": "command"}, "command"),
    ],
)
def test_channel_that_lacks_something_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        ChannelConfig(name="a", **wrong)
