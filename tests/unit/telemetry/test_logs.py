from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from contlearn.telemetry.logs import configure_logs, get_logger


@pytest.fixture
def lines():
    """What is logged meanwhile, parsed; the logging of the tests is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("INFO", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_logs_are_json_lines_with_fields(lines):
    get_logger("contlearn.test").info("version loaded", version=7)
    get_logger("contlearn.test").debug("not shown")
    (line,) = lines()
    assert (line["event"], line["version"], line["level"]) == ("version loaded", 7, "info")
    assert line["logger"] == "contlearn.test"
    assert line["timestamp"].endswith("Z")


def test_logs_of_libraries_take_the_same_way(lines):
    logging.getLogger("some.library").warning("odd %s", "thing", extra={"count": 3})
    (line,) = lines()
    assert (line["event"], line["count"], line["level"]) == ("odd thing", 3, "warning")


def test_logs_withhold_texts_whoever_wrote_them(lines):
    get_logger("contlearn.test").info("answered", text="my secret", texts=["a"], token="t")
    logging.getLogger("some.library").warning("answered", extra={"inputs": {"text": "my secret"}})
    assert "secret" not in json.dumps(lines())
    assert lines()[0]["text"] == "(withheld)"


def test_logs_keep_tracebacks_on_one_line(lines):
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("contlearn.test").exception("failed")
    (line,) = lines()
    assert "ValueError: broken" in line["exception"]
