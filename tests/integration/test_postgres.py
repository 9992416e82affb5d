"""The catalog and a source on a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.leases import hold_lease, lease_lost, require_lease
from contlearn.catalog.schema import leases, records
from contlearn.config import Config
from contlearn.context import Context
from contlearn.cycle.job import STAGES
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.data.forgetting import forget_records
from contlearn.data.intake.ingest import ingest_paths, ingest_sources
from contlearn.data.intake.place import Intake
from contlearn.data.store import read_records
from contlearn.errors import ConfigError, StorageError
from contlearn.plugins.manager import PluginManager
from contlearn.testing import FakeClock
from contlearn.workspace import Workspace
from tests.postgres import postgres, restart
from tests.races import Races
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here
from tests.texts import classified


@pytest.fixture(scope="module")
def url():
    with postgres() as server:
        yield server


@pytest.fixture
def empty(url):
    """The server's database, with nothing in it."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


@pytest.fixture
def place(tmp_path, empty):
    """A workspace whose catalog is on the server, empty."""
    workspace = Workspace(tmp_path / "ws")
    workspace.make_folders()
    return workspace


def take(workspace, url, path, **data):
    config = Config.model_validate({"data": data, "storage": {"catalog": url}})
    with Catalog(url, ids=workspace.state / "ids") as catalog:
        parts = (workspace, config, catalog, PluginManager(discover=False))
        return ingest_paths(Intake(*parts, clock=FakeClock()), [path]).to_json()


def test_records_are_taken_in_once_and_found_again(place, url, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"message number {i}", "label": "ab"[i % 2]} for i in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], {"text": 5}]))
    first = take(place, url, path)
    assert (first["accepted"], first["duplicates"], first["rejected"]) == (300, 1, 1)
    other = tmp_path / "more.jsonl"
    lines = [*rows[:10], {"text": "new", "label": "a"}, {"text": rows[1]["text"], "label": "a"}]
    other.write_text("".join(json.dumps(row) + "\n" for row in lines))
    second = take(place, url, other)
    assert (second["accepted"], second["duplicates"], second["conflicts"]) == (1, 10, 1)
    with Catalog(url, ids=place.state / "ids") as catalog:
        with catalog.read() as connection:
            ids = list(connection.execute(sa.select(records.c.record_id)).scalars())
        assert len(ids) == len(set(ids)) == 301
        texts = {record.inputs["text"] for record in read_records(place, catalog, ids)}
        assert texts == {row["text"] for row in rows} | {"new"}
        config = Config.model_validate({"storage": {"catalog": url}})
        manager = PluginManager(discover=False)
        report = forget_records(place, config, catalog, manager, ids[:2], reason="asked to")
        assert report.records == 2
        assert len(read_records(place, catalog, ids)) == 299


def test_newer_label_wins_on_the_server_too(place, url, tmp_path):
    for name, label in (("one", "a"), ("two", "b")):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({"text": "the same", "label": label}) + "\n")
        assert take(place, url, path, on_conflict="newest")["accepted"] == 1
    with Catalog(url, ids=place.state / "ids") as catalog, catalog.read() as connection:
        states = dict(connection.execute(sa.select(records.c.key, records.c.state)).all())
    assert states == {"a": "superseded", "b": "pending"}


def test_source_reads_the_server_from_where_it_ended(place, url, tmp_path):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS tickets")
        connection.exec_driver_sql(
            "CREATE TABLE tickets (id serial, body text, topic int, at timestamptz, weight numeric)"
        )

        def insert(count, hour):
            connection.exec_driver_sql(
                f"INSERT INTO tickets (body, topic, at, weight) SELECT 'hour {hour} ticket ' || n, "
                f"mod(n, 2), '2025-03-01 {hour}:00+00', 0.5 FROM generate_series(1, {count}) n"
            )

        insert(40, 10)
    source = {
        "name": "tickets",
        "kind": "sql",
        "url": url,
        "query": "SELECT body AS text, topic AS label, at, weight::numeric FROM tickets "
        "WHERE at > :cursor ORDER BY at",
        "cursor": "at",
        "start": datetime(2020, 1, 1, tzinfo=UTC),
        "label_names": ["billing", "returns"],
    }
    config = Config.model_validate(
        {"data": {"weight": "weight", "timestamp": "at"}, "sources": [source]}
    )
    manager = PluginManager(discover=False)
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:

        def fetch():
            parts = (place, config, catalog, manager)
            return ingest_sources(Intake(*parts, clock=FakeClock()), ["tickets"]).to_json()

        first = fetch()
        assert (first["accepted"], first["files"][0]["verdict"]) == (40, "ok")
        assert fetch()["files"] == []
        with engine.begin() as connection:
            insert(5, 11)
        assert fetch()["rows"] == 5
        with catalog.read() as connection:
            ids = list(connection.execute(sa.select(records.c.record_id)).scalars())
        found = read_records(place, catalog, ids)
    assert {record.target for record in found} == {"billing", "returns"}
    assert found[0].weight == 0.5
    assert found[0].timestamp == datetime(2025, 3, 1, 10, tzinfo=UTC)
    engine.dispose()


def test_source_cannot_change_the_server(place, url, tmp_path):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE numbers")
    query = "SELECT 'text' AS text, nextval('numbers') AS label"
    source = {"name": "wrong", "kind": "sql", "url": url, "query": query}
    config = Config.model_validate({"sources": [source]})
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:
        parts = (place, config, catalog, PluginManager(discover=False))
        report = ingest_sources(Intake(*parts, clock=FakeClock()), []).to_json()
    assert report["files"][0]["reason"] == "source-failed"
    assert "read-only" in report["files"][0]["message"]
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT nextval('numbers')").scalar() == 1
    engine.dispose()


@pytest.mark.slow
def test_lease_has_one_holder_whatever_the_clocks_and_namespaces(empty):
    found = Races(empty, rounds=10).run()
    assert found["problems"] == []
    assert found["held: told that it is held"] == 2 * found["racers"]
    assert found["ran out: told that it is held"] == 2 * (found["racers"] - 1)


def test_lease_outlives_a_lost_connection(empty):
    lost = threading.Event()
    with (
        Catalog(empty) as catalog,
        hold_lease(
            catalog, "x", purpose="testing", seconds=20, heartbeat_seconds=0.1, lost=lost
        ) as token,
    ):
        before = _expiry(catalog)
        engine = sa.create_engine(empty)
        with engine.begin() as connection:
            ours = "pid <> pg_backend_pid() AND datname = current_database()"
            connection.exec_driver_sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
            )
        engine.dispose()
        deadline = time.monotonic() + 60
        while _expiry(catalog) <= before + 0.5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        require_lease(catalog, "x", token)
        assert not lost.is_set()


def test_holder_that_reaches_no_server_for_a_lease_stops(tmp_path):
    lost = threading.Event()
    with contextlib.ExitStack() as stack:
        server = contextlib.ExitStack()
        url = server.enter_context(postgres())
        catalog = stack.enter_context(Catalog(url))
        stack.enter_context(
            hold_lease(
                catalog, "x", purpose="testing", seconds=1.0, heartbeat_seconds=0.1, lost=lost
            )
        )
        server.close()
        assert lost.wait(60)
        error = lease_lost(catalog, "x")
    assert (error.exit_code, "could not reach the catalog" in error.hint) == (4, True)


def _expiry(catalog):
    try:
        with catalog.read() as connection:
            return connection.execute(sa.select(leases.c.expires_at)).scalar() or 0.0
    except StorageError:
        return 0.0


def test_process_that_stands_still_in_its_transaction_holds_nobody_up(empty, tmp_path):
    """Stopped between the renewal of its lease and the end of the transaction."""
    code = (
        "import sys; from contlearn.catalog import Catalog, leases\n"
        "from contlearn.catalog.leases import _bound_idle\n"
        f"with Catalog({empty!r}) as catalog, catalog.write() as c:\n"
        "    _bound_idle(c, 2.0)\n"
        "    c.exec_driver_sql(\"update leases set expires_at = 1.0 where name = 'x'\")\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with Catalog(empty) as catalog:
        with hold_lease(catalog, "x", purpose="testing"):
            pass
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            try:
                assert other.stdout.readline() == b"in\n"
                other.send_signal(signal.SIGSTOP)
                with hold_lease(catalog, "x", purpose="testing", seconds=2.0) as token:
                    assert token == 2
            finally:
                other.kill()
                other.stdin.close()


# The scripted trainer reads a SQLite file: it is given one, as the real one reads from the server.
CHILD = """
import sqlite3, sys
from pathlib import Path
from contlearn.catalog import Catalog
from tests.scripted_child import main

folder = Path(sys.argv[1])
copy = sqlite3.connect(folder.absolute().parents[2] / "state/catalog.sqlite")
with Catalog(URL) as catalog, catalog.read() as connection, copy:
    for table, names in (("cycle_records", "cycle_id, record_id, role"), ("records", "record_id, key")):
        copy.execute(f"drop table if exists {table}")
        copy.execute(f"create table {table} ({names})")
        for row in connection.exec_driver_sql(f"select {names} from {table}"):
            copy.execute(f"insert into {table} values ({', '.join('?' * len(row))})", tuple(row))
sys.exit(main(folder))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_server_that_is_started_again_in_the_middle_fails_no_cycle(
    stage, empty, tmp_path, monkeypatch
):
    (tmp_path / "reading_child.py").write_text(CHILD.replace("URL", repr(empty)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    more = f'[storage]\ncatalog = "{empty}"\n[update]\nlease_seconds = 60.0\n'
    workspace = make_workspace(tmp_path / "ws", more)
    drop(workspace, "calm")
    begun = []

    def progress(name, *_):
        if name == stage and not begun:
            begun.append(name)
            restart(empty)

    with ScriptedContext.open(workspace.root) as context:
        cycle = UpdateCycle(context, child="reading_child", scan=scan_here, progress=progress)
        result = cycle.run_once()
        assert (begun, result.outcome, result.version) == ([stage], "promoted", 1), result.error
        with context.catalog.read() as connection:
            states = connection.execute(sa.select(records.c.state).distinct()).scalars().all()
    assert states == ["learnt"]


def test_two_workspaces_do_not_share_a_server_catalog(empty, tmp_path):
    more = f'[storage]\ncatalog = "{empty}"\n'
    one, two = make_workspace(tmp_path / "one", more), make_workspace(tmp_path / "two", more)
    with Context.open(one.root) as context, context.catalog.read():
        pass
    with Context.open(two.root) as context, pytest.raises(ConfigError) as error:
        _ = context.catalog
    assert f"belongs to the workspace {one.root}" in error.value.what
    assert str(two.root) in error.value.what


@pytest.mark.slow
def test_two_updates_at_once_one_works_and_the_other_is_told_with_its_own_code(program, empty):
    with (program.root / "contlearn.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[storage]\ncatalog = "{empty}"\n')
    program.drop("first.jsonl", classified(["billing", "shipping", "garden"], 30))
    with program.popen("update", "--json") as first, program.popen("update", "--json") as second:
        ends = {}
        for one in (first, second):
            out, _ = one.communicate(timeout=280)
            ends[one.returncode] = json.loads(out)
    assert set(ends) == {0, 4}
    assert ends[0]["outcome"] == "promoted"
    assert "is updating" in ends[4]["error"]
    assert program.json("status")["experiences"] == 1


@pytest.mark.slow
def test_password_of_the_server_stands_in_no_file_of_an_update(tmp_path, url, place, tiny_model):
    """The child opens the catalog all the same; an interrupted cycle goes on with a new password."""
    from tests.integration.conftest import CLASSIFIER, Program
    from tests.integration.test_kills import arm
    from tests.texts import classified

    program = Program(tmp_path / "secret")

    def configure(password):
        catalog = url.replace("tester@", f"tester:{password}@")
        assert catalog != url
        program.configure(CLASSIFIER + f'[storage]\ncatalog = "{catalog}"\n', tiny_model)

    program.run("init", program.root, "--base", str(tiny_model))
    configure("hunter2")
    program.drop("a.jsonl", classified(["billing", "shipping"], 40))
    plugins = arm(program, tmp_path, "cycle-state:exporting")
    program.run("--plugins-dir", plugins, "update", code=-9)
    configure("swordfish")
    assert program.json("update")["outcome"] == "promoted"
    exported = tmp_path / "exported"
    program.run("export", exported)
    shown = [
        program.run(*command.split())
        for command in ("show --json", "config show", "status --json", "history --json", "report")
    ]
    for secret in ("hunter2", "swordfish"):
        assert not [text for text in shown if secret in text]
        for folder in (program.root, exported):
            files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
            holding = {p.name for p in files if secret.encode() in p.read_bytes()}
            assert holding <= {"contlearn.toml"}, secret
    assert "tester:***@" in shown[0]
