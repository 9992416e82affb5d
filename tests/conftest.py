"""Fixtures for all tests, and the rule that CI skips nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from contlearn.config import Config
from contlearn.testing import FakeClock
from contlearn.workspace import Workspace

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite started in the background of a shell ignores the interrupt, and so would the programs
    # that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip into a failure where CONTLEARN_FORBID_SKIPS is set."""
    report = yield
    if (
        report.skipped
        and os.environ.get("CONTLEARN_FORBID_SKIPS")
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped where skips are forbidden: {report.longrepr}"
    return report


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with folders and an empty configuration."""
    made = Workspace(tmp_path / "ws")
    made.make_folders()
    made.config_file.write_text('[model]\nname = "test"\n', encoding="utf-8")
    return made


@pytest.fixture
def config() -> Config:
    return Config()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip in one line without it."""
    folder = os.environ.get("CONTLEARN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set CONTLEARN_DATA to its folder")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A tiny BERT with random weights that knows the words of `tests.texts`."""
    from contlearn.testing import write_tiny_model
    from tests.texts import WORDS

    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny", words=WORDS, hidden_size=64)
