"""A workspace whose configuration holds secrets: nothing else in it or of it does."""

from __future__ import annotations

import json
import stat

import pytest
import sqlalchemy as sa

from contlearn.cli import main
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.operations.export import export_version
from tests.scripted import ScriptedContext, drop, make_workspace, open_watch, scan_here

SECRETS = ("hunter2", "t0k3n", "AKIA123")
MORE = """
[[sources]]
name = "web"
kind = "files"
url = "http://ann:hunter2@127.0.0.1:9/rows.jsonl?token=t0k3n"
[[sources]]
name = "base"
kind = "sql"
url = "postgresql+psycopg://ann:hunter2@127.0.0.1:9/db?sslpassword=t0k3n"
query = "SELECT 1 AS text"
[[sources]]
name = "bucket"
kind = "files"
url = "s3://bucket/rows.jsonl"
every = "1h"
options = {key = "AKIA123", secret = "hunter2"}
[[notifications.channels]]
name = "team"
kind = "slack"
url = "http://127.0.0.1:9/services/t0k3n"
"""


def holding(root) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and any(secret.encode() in path.read_bytes() for secret in SECRETS)
    )


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A workspace that has fetched, failed, learnt, refused, exported and told."""
    root = tmp_path_factory.mktemp("secrets") / "ws"
    workspace = make_workspace(root)
    text = workspace.config_file.read_text(encoding="utf-8")
    workspace.config_file.write_text(text + MORE, encoding="utf-8")
    drop(workspace, "calm")
    watch = open_watch(workspace)
    assert watch.step().outcome == "promoted"
    for label in ("crash", "bad"):
        drop(workspace, label)
        with ScriptedContext.open(workspace.root) as context:
            UpdateCycle(context, child="tests.scripted_child", scan=scan_here).run_once()
    watch.post()
    with ScriptedContext.open(workspace.root) as context:
        export_version(context, 1, root.parent / "exported")
    watch.context.close()
    return workspace


def test_secrets_stand_in_the_configuration_alone(used):
    assert holding(used.root) == ["contlearn.toml"]
    assert holding(used.root.parent / "exported") == []
    with ScriptedContext.open(used.root) as context, context.catalog.read() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            assert not any(secret in rows for secret in SECRETS), table


@pytest.mark.parametrize(
    "command",
    [
        ("config", "show"),
        ("config", "show", "--json"),
        ("status",),
        ("status", "--json"),
        ("history",),
        ("history", "--json"),
        ("metrics",),
        ("notify", "test"),
        ("ingest", "--source", "web"),
        ("ingest", "--source", "base", "--json"),
        ("data", "quarantine"),
        ("report", "--all"),
    ],
    ids=" ".join,
)
def test_commands_show_no_secret(used, capfd, command):
    with pytest.raises(SystemExit):
        main(["--workspace", str(used.root), *command])
    out, err = capfd.readouterr()
    assert out.strip()
    assert not [secret for secret in SECRETS if secret in out + err]


def test_configuration_is_shown_with_what_is_no_secret(used, capsys):
    with pytest.raises(SystemExit):
        main(["--workspace", str(used.root), "config", "show", "--json"])
    shown = json.loads(capsys.readouterr().out)["config"]
    web, base, bucket = shown["sources"]
    assert web["url"] == "http://ann:***@127.0.0.1:9/rows.jsonl?token=***"
    assert base["url"] == "postgresql+psycopg://ann:***@127.0.0.1:9/db?sslpassword=***"
    assert bucket["options"] == {"key": "***", "secret": "***"}


def test_doctor_names_files_of_before_that_hold_a_password_in_force(used):
    from contlearn.operations.doctor import examine_workspace

    def kept():
        checks = {check.name: check for check in examine_workspace(used.root)}
        assert not any(secret in str(checks) for secret in SECRETS)
        return checks["kept secrets"]

    assert kept().ok is True
    manifest = used.root / "versions" / "1" / "manifest.json"
    value = json.loads(manifest.read_bytes())
    url = "http://ann:hunter2@127.0.0.1:9/rows.jsonl?token=t0k3n"
    value["lineage"]["config"] = {"sources": [{"name": "web", "url": url}]}
    manifest.chmod(stat.S_IRUSR | stat.S_IWUSR)
    manifest.write_text(json.dumps(value))
    assert kept().ok is False
    assert "versions/1/manifest.json" in kept().found
    assert "hunter2" not in kept().found
    # Once the password is another one, the old manifest holds nothing any more.
    text = used.config_file.read_text(encoding="utf-8")
    used.config_file.write_text(text.replace("hunter2", "s0mething").replace("t0k3n", "n3w"))
    assert kept().ok is True
