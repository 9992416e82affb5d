"""Secrets in texts, in configurations, in errors and in log lines."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.config import load_config
from contlearn.errors import ConfigError, StorageError
from contlearn.redaction import redact, redact_config, restore_secrets, secrets_in


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://ann:hunter2@db:5432/x", "postgresql+psycopg://ann:***@db:5432/x"),
        ("postgresql://ann:p@ss@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann:a/b@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("https://ghp_abc@host/x.git", "https://***@host/x.git"),
        ("https://host/a.csv?X-Amz-Signature=1&part=2", "https://host/a.csv?X-Amz-Signature=***&part=2"),
        ("https://host/a?sig=abc%3D&sv=1", "https://host/a?sig=***&sv=1"),
        ("https://hooks.slack.com/services/T1/B2/x3 said no", "https://hooks.slack.com/*** said no"),
        ("host=db password=hunter2 user=ann", "host=db password=*** user=ann"),
        ("""{"secret": "hunter2", "anon": true}""", """{"secret": "***", "anon": true}"""),
        ("Authorization: Bearer abc123def456", "Authorization: Bearer ***"),
        # What stands for a secret is none, and what only looks like one stays.
        ("postgresql://ann:${PASSWORD}@db/x", "postgresql://ann:${PASSWORD}@db/x"),
        ("https://host/a?token=${TOKEN}", "https://host/a?token=${TOKEN}"),
        ("see http://host:80/path and write to bob@host", "see http://host:80/path and write to bob@host"),
        ('data.tokens = "words", task = "token-classification"', 'data.tokens = "words", task = "token-classification"'),
        ('password_file = "smtp.password"', 'password_file = "smtp.password"'),
        ("sqlite:///state/catalog.sqlite", "sqlite:///state/catalog.sqlite"),
        ("Basic authentication is needed", "Basic authentication is needed"),
    ],
)  # fmt: skip
def test_secrets_go_and_the_rest_stays(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~%!$*+,", min_size=1, max_size=20)


@given(user=word, password=word.map(lambda w: f"Zq9{w}"), host=word)
def test_no_password_of_an_address_is_left(user, password, host):
    shown = redact(f"cannot reach postgresql://{user}:{password}@{host}/db, sorry")
    assert password not in shown
    assert shown.endswith(f"@{host}/db, sorry")


CONFIG = {
    "storage": {"catalog": "postgresql://ann:hunter2@db/x"},
    "sources": [
        {"name": "s3", "url": "s3://bucket/*.csv", "options": {"key": "AKIA1", "secret": "s3cr", "anon": False,
         "client_kwargs": {"endpoint_url": "https://minio", "aws_session_token": "t0k"}}},
        {"name": "web", "url": "https://u:pw1@host/a.csv?token=t1", "options": {}},
        {"name": "env", "url": "https://host/a?token=${T}", "options": {"token": "${T}"}},
    ],
    "training": {"strategy_options": {"api_key": "k3y", "ratio": 0.5, "name": "ewc"}},
    "notifications": {"channels": [{"name": "team", "url": "https://hooks.example/services/T/B/x"}]},
    "data": {"tokens": "words", "text": "body"},
}  # fmt: skip


def test_configuration_is_shown_without_its_secrets_and_gets_them_back():
    shown = redact_config(CONFIG)
    assert shown["storage"]["catalog"] == "postgresql://ann:***@db/x"
    s3, web, env = shown["sources"]
    assert s3["options"] == {
        "key": "***",
        "secret": "***",
        "anon": False,
        "client_kwargs": {"endpoint_url": "https://minio", "aws_session_token": "***"},
    }
    assert web["url"] == "https://u:***@host/a.csv?token=***"
    assert env["url"] == CONFIG["sources"][2]["url"]
    assert shown["training"]["strategy_options"] == {"api_key": "***", "ratio": 0.5, "name": "ewc"}
    assert shown["notifications"]["channels"][0]["url"] == "https://hooks.example/***"
    assert shown["data"] == CONFIG["data"]
    assert restore_secrets(shown, CONFIG) == CONFIG
    # What was planned otherwise stays as it was planned.
    shown["training"]["strategy_options"]["ratio"] = 0.7
    back = restore_secrets(shown, CONFIG)
    assert back["training"]["strategy_options"] == {"api_key": "k3y", "ratio": 0.7, "name": "ewc"}


def test_secrets_of_a_configuration_are_named():
    assert secrets_in({"storage": {"catalog": "sqlite:///x"}}) == set()
    assert {"AKIA1", "s3cr", "t0k", "k3y"} <= secrets_in(CONFIG)


def test_error_holds_no_password_wherever_it_came_from():
    error = StorageError(
        "could not connect to postgresql://ann:hunter2@db/x", where="postgresql://ann:hunter2@db/x"
    )
    assert "hunter2" not in f"{error} {error!r} {error.args} {error.to_json()}"


def test_wrong_configuration_is_explained_without_its_secrets(tmp_path):
    (tmp_path / "contlearn.toml").write_text(
        '[[sources]]\nname = "s3"\nkind = "files"\nurl = "https://ann:hunter2@host/a.csv"\n'
        'query = "x"\noptions = {secret = "hunter2", key = "hunter2"}\n'
        '[storage]\ncatalog = ["postgresql://ann:hunter2@db/x"]\n'
    )
    with pytest.raises(ConfigError) as raised:
        load_config(tmp_path)
    assert "query does not belong" in str(raised.value)
    assert "storage.catalog" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_log_line_holds_no_password_not_even_in_a_traceback():
    from contlearn.telemetry.logs import configure_logs, get_logger

    stream = io.StringIO()
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        configure_logs(stream=stream)
        log = get_logger("contlearn.test")
        log.info("asked", address="https://host/a?token=hunter2")
        logging.getLogger("library").warning("GET https://ann:hunter2@host/a")
        try:
            raise OSError("https://ann:hunter2@host/a is not there")
        except OSError:
            log.exception("failed")
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 3
    assert "Traceback" in lines[2]["exception"]
    assert "hunter2" not in stream.getvalue()
