"""The live view, rendered as terminals of several sizes show it."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.screen import Screen

from contlearn.cli.live import live_view

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
VALUE = {
    "model": "tickets",
    "task": "text-classification",
    "primary_metric": "accuracy",
    "champion": {
        "version": 7,
        "promoted_at": "2030-01-01T09:00:00+00:00",
        "metrics": {"average_accuracy": 0.91},
    },
    "awaiting_approval": None,
    "pending_records": 120,
    "oldest_pending": "2030-01-01T08:00:00+00:00",
    "held_records": 3,
    "learnt_records": 900,
    "held_out_records": 100,
    "running_cycle": {
        "cycle": "c8", "state": "training", "trigger": "drift", "interrupted": False,
        "started_at": "2030-01-01T11:58:00+00:00",
        "progress": {"stage": "training", "done": 30, "total": 120, "message": ""},
    },
    "recent": [
        {"cycle": "c6", "trigger": "count", "outcome": "refused", "version": 6,
         "ended_at": "2030-01-01T10:00:00+00:00", "why": "lost 4 points on [old] rows"},
    ],
    "looks": {"drift": True, "severity": "strong", "explanation": ["Texts are longer."],
              "estimated_accuracy": 0.84, "measured_accuracy": None},
    "notifications_waiting": 2,
    "daemon": {
        "running": True, "doing": "updating: drift", "heartbeat_at": "2030-01-01T11:59:55+00:00",
        "due": ["count"], "waits": {"count": "cool-down until 13:00"}, "failures": 2,
        "retry_in_seconds": 30.0, "last_error": "it broke", "next_scheduled": "2030-01-02T03:00:00+00:00",
        "queue": ["/srv/[b]"], "probation": {"version": 7, "verdict": "", "elapsed": 60.0},
        "disk": {"free_bytes": 5e9, "used_bytes": 1e6, "allowed_bytes": 0, "needed_bytes": 4e8,
                 "missing_bytes": 0},
        "inbox_error": None, "config_error": None,
    },
}  # fmt: skip


def shown(value):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(live_view(value, NOW))
    return console.export_text()


def test_view_says_what_runs_what_comes_and_why():
    text = shown(VALUE)
    for words in (
        "tickets  ·  text-classification",
        "version 7 for 3 h, average accuracy 91.0 %",
        "120 pending (the oldest since 2030-01-01 08:00), 3 held, 900 learnt, 100 held out",
        "c8 (drift), training for 2 min",
        "30/120",
        "count: cool-down until 13:00",
        "schedule: 2030-01-02 03:00 UTC, in 15 h",
        "version 7 is on probation since 60 s",
        "queue: /srv/[b]",
        "strong: Texts are longer.; estimated accuracy 84.0 %",
        "5.0 GB free, an update needs 400 MB",
        "2 failures in a row, next try in 30 s: it broke",
        "2 notifications wait",
        "lost 4 points on [old] rows",
    ):
        assert words in text, words


DECISIONS = [
    {"cycle": f"c{n}", "trigger": trigger, "outcome": outcome, "version": n,
     "ended_at": "2030-01-01T10:00:00+00:00", "why": why}
    for n, (trigger, outcome, why) in enumerate(
        (
            ("count", "refused", "accuracy on the old sets\nfell by 4.1 points, more than 1.0"),
            ("schedule", "promoted", ""),
            ("measured-accuracy", "failed", "The child process was ended: it used too much memory"),
            ("request", "awaiting-approval", None),
        ),
        1,
    )
]  # fmt: skip


def on_screen(value, width, height):
    """Give the lines that a terminal of this size shows."""
    out = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    out.print(Screen(live_view(value, NOW, width=width, height=height)))
    return [line.rstrip() for line in out.export_text().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 24), (40, 17), (200, 60)])
def test_view_fits_its_terminal_and_loses_no_fact(width, height):
    lines = on_screen({**VALUE, "recent": DECISIONS}, width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    labels = {line[:8].strip() for line in lines}
    assert {"served", "records", "now", "next", "drift", "disk", "daemon", "outbox"} <= labels
    text = "\n".join(lines)
    least = 3 if height > 17 else 1
    assert sum(d["outcome"] in text for d in DECISIONS) >= least
    assert "accuracy on the" in text
    assert "queue: /srv/[b]" in text
    assert ("30/120 " in text) == (height > 17)


def test_where_lines_are_few_sentences_are_cut_and_say_so():
    tall, short = (on_screen(VALUE, 40, height) for height in (40, 16))
    assert "records  120 pending (the oldest since" in tall
    assert "         2030-01-01 08:00), 3 held, 900" in tall
    assert "records  120 pending (the oldest since …" in short


def test_records_that_are_tried_in_parts_are_shown():
    assert "120 pending, 12 of them tried part by part" in shown(
        {**VALUE, "suspected_records": 12, "oldest_pending": None}
    )


def test_kept_records_are_shown():
    value = {**VALUE, "kept_records": 100, "oldest_pending": None}
    assert "120 pending, 100 of them kept for the next update, 3 held" in shown(value)


def test_empty_workspace_is_shown(workspace):
    from contlearn.context import Context
    from contlearn.operations.status import read_status

    with Context.open(workspace.root) as context:
        text = shown(read_status(context))
    assert "nothing yet" in text
    assert "no update runs" in text
    assert "not running" in text
    assert "nothing starts by itself: no daemon runs" in text


def test_watch_draws_on_a_terminal_until_it_is_interrupted(workspace):
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "contlearn", "--workspace", str(workspace.root), "status",
               "--watch", "--every", "0.2"]  # fmt: skip
    with subprocess.Popen(command, stdout=child, stderr=child, stdin=child) as process:
        os.close(child)
        seen = b""
        deadline = time.monotonic() + 60
        while seen.count(b"no update runs") < 2 and time.monotonic() < deadline:
            seen += os.read(parent, 65536)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                seen += os.read(parent, 65536)
            except OSError:
                break
        assert process.wait(timeout=30) == 130
    os.close(parent)
    assert seen.count(b"no update runs") >= 2
    assert b"\x1b[?1049l" in seen  # the screen of before is back
