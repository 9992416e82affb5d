from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_row_is_there_exactly_once_after_kills_at_random_moments():
    # A process of its own: it forks, which a test process with threads must not.
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.data.killing", "--kills", "12", "--seed", "7"],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["kills"] == 12
    # Some scans got as far as a commit before they were killed, and were not the last one.
    assert result["files_before_the_last_scan"] > 0
    assert result["rows"] > 500
