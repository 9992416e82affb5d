"""What a child tells and when it ends, seen from its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from contlearn.errors import ConfigError, ContlearnError, TrainingError
from contlearn.processes.children import progress_of, run_child

CHILD = """
import sys
from contlearn.errors import ConfigError, TrainingError
from contlearn.processes.answering import answer_parent, tell_progress

def work():
    {what}

sys.exit(answer_parent(work{more}))
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Run a child that does something."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])

    def run(what, more=""):
        (tmp_path / "telling.py").write_text(CHILD.format(what=what, more=more))
        heard = []
        log = tmp_path / "log.txt"
        end = run_child(
            "telling", [], log=log, on_message=heard.append, environ={"PYTHONPATH": path}
        )
        return end, heard

    return run


def test_answer_and_progress_are_heard(child):
    end, heard = child("tell_progress('reading', 1, 2, 'a file'); return {'rows': 3}")
    assert (end.returncode, end.failure, heard[1:]) == (0, None, [{"rows": 3}])
    assert progress_of(heard[0]) == ("reading", 1, 2, "a file")


def test_error_of_the_child_is_the_same_in_the_parent(child):
    end, heard = child('raise ConfigError("no", where="here", hint="do this")')
    assert isinstance(end.failure, ConfigError)
    assert str(end.failure) == str(ConfigError("no", where="here", hint="do this"))
    assert (end.returncode, heard) == (ConfigError("no").exit_code, [])
    assert "Traceback" in end.log_tail


def test_error_without_a_place_has_the_log_for_one(child, tmp_path):
    assert child('raise ConfigError("no")')[0].failure.where == str(tmp_path / "log.txt")


@pytest.mark.parametrize(
    ("more", "kind"), [("", ContlearnError), (", unforeseen=TrainingError", TrainingError)]
)
def test_other_exception_of_the_child_names_the_log(child, tmp_path, more, kind):
    end, _ = child("1 / 0", more)
    assert type(end.failure) is kind
    assert end.failure.what == "ZeroDivisionError: division by zero"
    assert end.failure.where == str(tmp_path / "log.txt")
    assert "please report it" in end.failure.hint
    assert "line 7, in work" in end.log_tail


def test_answer_that_is_no_json_is_told_as_an_error(child):
    assert child("return {'a': object()}")[0].failure.what.startswith("TypeError: Object of type")


def test_package_that_is_missing_is_named_with_its_extra(child):
    end, _ = child("raise ModuleNotFoundError('no', name='pyarrow.parquet')")
    assert isinstance(end.failure, ConfigError)
    assert "contlearn[ingest]" in end.failure.hint


def test_no_secret_gets_into_error_or_log(child):
    end, _ = child("raise ValueError('postgresql://ada:' + 'hunt' + 'er2@db/x')")
    assert "hunter2" not in end.failure.what + end.log_tail
    assert "ValueError: postgresql://ada:***@db/x" in end.log_tail


def test_error_is_told_where_the_log_is_on_a_full_disk(child):
    full = "sys.stderr = open('/dev/full', 'w', buffering=1); "
    assert isinstance(child(full + 'raise ConfigError("no")')[0].failure, ConfigError)


def test_child_dies_with_its_parent(tmp_path):
    """The kernel ends the child when the parent is killed, in whatever state both are."""
    code = (
        "import subprocess, sys, os, time\n"
        "os.environ['CONTLEARN_PARENT_PID'] = str(os.getpid())\n"
        "c = subprocess.Popen([sys.executable, '-c', 'import time\\n"
        "from contlearn.processes.answering import answer_parent\\n"
        "answer_parent(lambda: (print(1, flush=True), time.sleep(60)))'],"
        " stdout=subprocess.PIPE)\n"
        "c.stdout.readline(); print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("contlearn.benchmark", ["."]),
        ("contlearn.cycle.doubting", [".", "0", "1"]),
        ("contlearn.daemon.comparing", [".", "2", "1", "0", "1"]),
        ("contlearn.daemon.watching", ["."]),
        ("contlearn.data", ["."]),
        ("contlearn.training", ["."]),
    ],
)
def test_every_child_ends_where_its_parent_is_gone(tmp_path, module, arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "CONTLEARN_PARENT_PID": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "message", [{}, {"stage": 1, "done": 1, "total": 2}, {"stage": "x"}, {"done": 1, "total": 2}]
)
def test_what_is_no_progress_is_none(message):
    assert progress_of(message) is None
