"""The daemon as an operator starts it: a real process, files dropped, signals, scrapes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.texts import classified

pytestmark = pytest.mark.slow


def start(program, *options):
    """Start the daemon on a free port; give the process, the address of its metrics, its log."""
    log = program.root.parent / f"daemon-{time.monotonic_ns()}.log"
    with log.open("w") as file:
        process = program.popen(
            "daemon", "--port", "0", *options, stdout=subprocess.DEVNULL, stderr=file
        )
    wait_for(lambda: "/metrics" in log.read_text() or process.poll() is not None)
    found = re.search(r"http://[\d.]+:\d+/metrics", log.read_text())
    assert found, log.read_text()
    return process, found[0], log


def scrape(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics, name, **labels):
    found = [v for (n, kv), v in metrics.items() if n == name and set(labels.items()) <= set(kv)]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def wait_for(what, seconds=240):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)


def test_daemon_updates_on_enough_records_and_is_scraped(program):
    with (program.root / "contlearn.toml").open("a") as file:
        file.write(
            "\n[update]\nmin_new_records = 60\ncooldown = 0\n[daemon]\nnice = 0\nscan_seconds = 0.3\n"
        )
    process, address, log = start(program)
    try:
        program.drop("few.jsonl", classified(["billing", "shipping", "garden"], 10))
        wait_for(lambda: program.json("status")["pending_records"] > 0)
        assert program.json("status")["champion"] is None
        program.drop("more.jsonl", classified(["billing", "shipping", "garden"], 30, seed=1))
        wait_for(lambda: program.json("status")["champion"] is not None)
        memory = psutil.Process(process.pid).memory_info().rss
        assert memory <= 80e6, f"{memory / 1e6:.1f} MB"
        metrics = scrape(address)
        assert value(metrics, "contlearn_champion_info", model="tickets", version="1") == 1
        assert value(metrics, "contlearn_promoted_version", model="tickets") == 1
        status = program.json("status")
        assert status["daemon"]["running"] is True
        assert status["daemon"]["pid"] == process.pid
        # What a probation asks: two versions on labels that neither has learnt; here one twice.
        program.drop("later.jsonl", classified(["billing", "shipping", "garden"], 8, seed=7))
        wait_for(lambda: program.json("status")["pending_records"] > 0)
        command = [
            sys.executable,
            "-m",
            "contlearn.daemon.comparing",
            str(program.root),
            "1",
            "1",
            "0",
            "50",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        compared = json.loads(done.stdout)
        assert compared["rows"] > 10
        assert compared["right"] == compared["former_right"]
        assert (compared["lost"], compared["won"], compared["differing"]) == (0, 0, 0)
        second = program.json("update", "--request", "--reason", "a test")
        assert second["daemon_running"] is True
        wait_for(lambda: program.json("status")["last_cycle"]["trigger"] == "request")
        wait_for(lambda: program.json("status")["running_cycle"] is None)
        second = program.json("update")
        assert second["outcome"] == "nothing-to-do"
        with program.popen("daemon", "--port", "0", "--no-standby") as other:
            _, err = other.communicate(timeout=30)
        assert other.returncode == 4
        assert "watching this workspace" in err
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, log.read_text()[-2000:]
    assert program.json("status")["daemon"]["running"] is False
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ended = [e for e in events if e.get("event") == "update ended"]
    assert ended[0]["outcome"] == "promoted"
    assert len(ended) == 2
    states = [e for e in events if e.get("event") == "cycle state"]
    assert {e["state"] for e in states} >= {"training", "exporting", "evaluating", "deciding"}
    assert states[0]["cycle"] == ended[0]["cycle"]


def test_terminated_daemon_leaves_a_cycle_that_the_next_start_finishes(program):
    with (program.root / "contlearn.toml").open("a") as file:
        file.write(
            "\n[update]\nmin_new_records = 20\n[daemon]\nnice = 0\nscan_seconds = 0.3\ngrace_seconds = 5\n"
        )
    program.drop("a.jsonl", classified(["billing", "shipping", "garden"], 40))
    process, _, _ = start(program)
    wait_for(lambda: program.json("status")["running_cycle"] is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    interrupted = program.json("status")["running_cycle"]
    assert interrupted is not None
    assert interrupted["interrupted"] is True
    process, _, _ = start(program)
    try:
        wait_for(lambda: program.json("status")["champion"] is not None)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    last = program.json("status")["last_cycle"]
    assert (last["cycle"], last["outcome"]) == (interrupted["cycle"], "promoted")


def test_killed_daemon_frees_its_lease(program):
    process, _, _ = start(program)
    process.kill()
    process.wait()
    again, _, _ = start(program)
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 0
