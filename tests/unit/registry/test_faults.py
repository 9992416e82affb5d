from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_every_file_operation_may_fail_or_be_killed_and_nothing_is_lost():
    """One fault in thirteen; the benchmark goes through all of them."""
    command = [sys.executable, "-m", "tests.unit.registry.faults", "--stride", "13"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) >= 60
    assert {result["fault"] for result in results} >= {"ENOSPC", "EIO", "EACCES"}
    assert sum(result["fault"].startswith("kill") for result in results) >= 20
    assert [result for result in results if result["problems"]] == []
