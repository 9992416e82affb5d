"""Terminals that are not UTF-8, readers that go away, and cron: in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

from contlearn.cycle.update_cycle import UpdateCycle
from tests.scripted import ScriptedContext, make_workspace, scan_here

LABEL = "größe"
ROWS = [{"text": f"Schön №{n} ☃ {'abcdefghij'[n % 10] * 3}", "label": LABEL} for n in range(12)]

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C locale": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
COMMANDS = [
    "status",
    "history",
    "data list",
    "data labels",
    "data quarantine",
    "data check ROWS",
    "ingest --dry-run ROWS",
    "update --dry-run",
    "alias list",
    "config show",
    "config schema",
    "metrics",
    "report --all",
    "verify",
    "show 7",
    "nonsense-größe",
    "predict größe",
    "--help",
]

EVERY = """
import json, sys
from contlearn.cli import main
root, lines, rows = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
ended = []
for line in lines:
    try:
        main(["--workspace", root, *(rows if word == "ROWS" else word for word in line)])
    except SystemExit as end:
        ended.append(end.code or 0)
sys.stderr.write("ended: " + " ".join(map(str, ended)))
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A promoted version, a refused row and pending records, all with signs beyond ASCII."""
    made = make_workspace(tmp_path_factory.mktemp("größe") / "wärme")
    write(made.inbox / "grüße.jsonl", [*ROWS, {"text": "ohne Maß"}])
    with ScriptedContext.open(made.root) as context:
        result = UpdateCycle(context, child="tests.scripted_child", scan=scan_here).run_once()
        assert result.outcome == "promoted"
    write(made.root / "mehr.jsonl", [{"text": "mehr Größe", "label": "länge"}, {"text": "nichts"}])
    return made


def call(root, *arguments, env=None, **options):
    command = [sys.executable, "-m", "contlearn", "--workspace", str(root), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, env={**os.environ, **(env or {})}, check=False, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_command_dies_of_a_terminal_that_is_not_utf_8(workspace, encoding):
    # One process for all of them: each takes seconds to start.
    rows = str(workspace.root / "mehr.jsonl")
    lines = [line.split() for line in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", EVERY, str(workspace.root), json.dumps(lines), rows],
        env={**os.environ, **ENCODINGS[encoding]},
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    assert "Traceback" not in said, said[-2000:]
    assert "This is a bug" not in said, said[-2000:]
    ended = [int(code) for code in said.partition("ended: ")[2].split()]
    expected = {"nonsense-größe": 2, "predict größe": 1, "show 7": 1}
    assert ended == [expected.get(line, 0) for line in COMMANDS]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_committed_work_is_told_on_any_terminal(tmp_path, encoding):
    root = tmp_path / "größe"
    env = ENCODINGS[encoding]
    assert call(root, "init", str(root), env=env).returncode == 0
    rows = write(tmp_path / "grüße.jsonl", ROWS)
    done = call(root, "ingest", str(rows), env=env)
    assert (done.returncode, b"Accepted 12 records" in done.stdout) == (0, True), done.stderr
    done = call(root, "data", "list", "--json", env=env)
    assert {r["label"] for r in json.loads(done.stdout)["records"]} == {LABEL}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_says_the_same_in_every_encoding(workspace, encoding):
    done = call(workspace.root, "data", "labels", "--json", env=ENCODINGS[encoding])
    assert [item["label"] for item in json.loads(done.stdout)["labels"]] == [LABEL]


@pytest.mark.slow
def test_reader_that_goes_away_is_no_failure(workspace):
    for line in ("history", "status", "config show", "config schema", "data list --json", "--help"):
        read, write_end = os.pipe()
        os.close(read)
        with contextlib.closing(os.fdopen(write_end, "wb")) as nobody:
            done = call(workspace.root, *line.split(), stdout=nobody)
        assert (done.returncode, done.stderr.decode()) == (0, ""), line


def test_reader_that_goes_away_does_not_change_how_it_ended(workspace):
    read, write_end = os.pipe()
    os.close(read)
    with contextlib.closing(os.fdopen(write_end, "wb")) as nobody:
        done = call(workspace.root, "data", "check", "/no/such/file", stdout=nobody)
        assert done.returncode != 0
        # Both streams without a reader, as in `contlearn … 2>&1 | head`.
        done = call(workspace.root, "show", "7", stdout=nobody, stderr=nobody)
    assert done.returncode == 1


def test_ingest_under_cron_says_why_on_standard_error(workspace, tmp_path):
    """`contlearn -q ingest … > /dev/null`: what is left is what cron mails."""
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no table")
    done = call(workspace.root, "-q", "ingest", "--dry-run", str(broken))
    assert done.returncode == 1
    assert done.stderr.decode().startswith("broken.parquet: ")


def test_update_under_cron_says_why_on_standard_error(tmp_path):
    made = make_workspace(tmp_path / "ws")
    made.config_file.write_text(
        made.config_file.read_text() + "[training]\nthreads = 1\n", encoding="utf-8"
    )
    text = made.config_file.read_text().replace(
        'name = "test"', 'name = "test"\nbase = "no/such/folder"'
    )
    made.config_file.write_text(text, encoding="utf-8")
    write(made.inbox / "rows.jsonl", ROWS)
    done = call(made.root, "-q", "update", env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert done.stderr.decode().startswith("Error: ")
    assert "to do: " in done.stderr.decode()
