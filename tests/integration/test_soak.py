"""Weeks of the daemon's life in a minute, with 60 kills; the benchmark does 1,000."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def live(*arguments):
    # In a process of its own: it forks daemons, and pytest's threads and handles stay out of them.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert '"problems": []' in done.stdout
    return done.stdout


def test_daemon_survives_sixty_kills_and_everything_else():
    assert '"kills": 60' in live("tests.soak", "60", "3")


def test_daemon_that_is_stopped_is_followed_also_inside_its_transactions():
    # How soon is for the benchmark: `python -m tests.benchmarks.leases stops`.
    assert '"writing_stops_in_a_transaction": 3' in live("tests.stops", "5", "3", "7", "60")
