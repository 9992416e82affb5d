"""The whole program beside broken plugins: update with its children, promotion, server, daemon."""

from __future__ import annotations

import json
import signal

import httpx
import pytest

from tests.served import wait_for
from tests.texts import classified

pytestmark = pytest.mark.slow

TEXTS = {
    "exits": "import sys\nsys.exit(3)\n",
    "takes": (
        "from contlearn.plugins import hookimpl\n"
        "class Worth:\n    name = 'worth'\n    summary = 'another'\n"
        "@hookimpl\ndef contlearn_register_gate_rules():\n    return [Worth]\n"
    ),
    "nothing": (
        "from contlearn.plugins import hookimpl\n"
        "@hookimpl\ndef contlearn_register_tasks():\n    return None\n"
    ),
}


@pytest.fixture
def plugins(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def _run(program, *arguments, code=0):
    with program.popen(*arguments) as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == code, err
    return out, err


def _lines_until(process, event):
    """Give the log up to an event."""
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == event:
            return lines
    raise AssertionError(f"the process ended with {process.wait()}: {lines}")


def _said(lines):
    return sorted(
        line["event"].split("'")[1] for line in lines if "is broken; what fails" in line["event"]
    )


def test_every_command_goes_on_beside_broken_plugins_and_says_so_once(program, plugins):
    ask = ("--plugins-dir", plugins)
    program.drop("first.jsonl", classified(["billing", "shipping"], 40))
    out, err = _run(program, *ask, "update", "--json")
    assert json.loads(out)["outcome"] == "promoted"
    assert err.count("is broken; what fails is left out") == len(TEXTS)
    out, err = _run(program, *ask, "predict", "my invoice", "--json")
    assert json.loads(out)["version"] == 1
    out, err = _run(program, *ask, "status", "--json")
    assert sorted(item["name"] for item in json.loads(out)["broken_plugins"]) == sorted(TEXTS)
    assert err.count("is broken; what fails is left out") == len(TEXTS)

    with program.popen(*ask, "serve", "--port", "0") as server:
        lines = _lines_until(server, "listening")
        assert _said(lines) == sorted(TEXTS)
        address = lines[-1]["address"]
        wait_for(lambda: httpx.get(f"{address}/health/ready").status_code == 200)
        answer = httpx.post(f"{address}/predict", json={"texts": ["my invoice"]})
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate(timeout=60)
    assert (answer.status_code, server.returncode) == (200, 0)
    assert "is broken" not in rest

    program.drop("second.jsonl", classified(["garden"], 40, seed=1))
    with program.popen(*ask, "daemon", "--port", "0") as daemon:
        lines = _lines_until(daemon, "files taken in")
        assert _said(lines) == sorted(TEXTS)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
    assert daemon.returncode == 0
