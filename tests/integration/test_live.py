"""After a run as users have it: a real daemon and a real server, scraped and opened in a browser.

The tiny model learns twice, refuses a batch of shuffled labels, answers, and gets labels back. Then
Prometheus asks both processes, promtool reads what they say, every query of every dashboard is
asked, and Chromium opens their pages.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from types import SimpleNamespace

import httpx
import pytest

from contlearn.papers.scores import pack_targets, unpack_targets
from tests.browser import browser
from tests.integration.conftest import CLASSIFIER, Program
from tests.scraping import DASHBOARDS, prometheus, queries_of
from tests.texts import classified

pytestmark = pytest.mark.slow

FIRST, SECOND = ["billing", "shipping", "returns"], ["account", "garden", "music"]
TOKEN = "a-token-of-the-test-suite"
MORE = """
[update]
min_new_records = 100
cooldown = 0
on_drift = false
on_measured_drop = false
on_estimated_drop = false
schedule = "0 3 29 2 *"

[probation]
window = 0

[daemon]
nice = 0
scan_seconds = 0.3

[serving]
port = 0
poll_seconds = 0.3
threads = 1
tokens_file = "tokens"

[monitoring]
log_text = true
drift_reference = 200
drift_window = 200
check_interval = 2

[monitoring.slices]
leisure = "\\\\b(rose|shovel|lawn|hedge|song|guitar|concert|drum)\\\\b"
rare = "\\\\bnobody writes this\\\\b"
"""


@dataclass
class Live:
    """Both processes, and the workspace they share."""

    program: Program
    daemon: str
    server: str

    def labelled(self, rows):
        """Ask, and send back what is right."""
        with httpx.Client(base_url=self.server, timeout=60) as client:
            for start in range(0, len(rows), 20):
                part = rows[start : start + 20]
                answer = client.post("/predict", json={"texts": [row["text"] for row in part]})
                value = answer.raise_for_status().json()
                labels = [
                    {"request_id": value["request_id"], "index": place, "label": row["label"]}
                    for place, row in enumerate(part)
                ]
                client.post(
                    "/feedback",
                    json={"labels": labels},
                    headers={"authorization": f"Bearer {TOKEN}"},
                ).raise_for_status()

    def metric(self, name, label=""):
        """Give the value of the daemon's metric with this label, None before it is there."""
        pattern = rf"^{name}{{[^}}]*{label}[^}}]*}} (\S+)$"
        found = re.search(pattern, scraped(self.daemon), re.MULTILINE)
        return None if found is None else float(found[1])

    def ask(self, rows):
        with httpx.Client(base_url=self.server, timeout=60) as client:
            for row in rows:
                client.post("/predict", json={"texts": [row["text"]]}).raise_for_status()


def wait_for(what, seconds=150):
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)
    return value


def started(program, log, *arguments):
    """Start a long-running command; give it with the address that it says."""
    with log.open("w") as file:
        process = program.popen(*arguments, stdout=file, stderr=file)
    found = wait_for(
        lambda: (
            re.search(r"http://[\d.]+:\d+", log.read_text())
            or (process.poll() is not None and SimpleNamespace(group=lambda: ""))
        )
    )
    assert process.poll() is None, log.read_text()
    return process, found.group()


@pytest.fixture(scope="module")
def live(tmp_path_factory, tiny_model):
    """The run: promoted, promoted, refused, asked, answered with labels."""
    root = tmp_path_factory.mktemp("live")
    program = Program(root / "ws")
    program.run("init", program.root, "--base", str(tiny_model))
    program.configure(CLASSIFIER + MORE.replace("{", "{{").replace("}", "}}"), tiny_model)
    (program.root / "tokens").write_text(f"feedback {TOKEN}\ncontrol {TOKEN}-control\n")
    processes = []
    try:
        process, daemon = started(program, root / "daemon.log", "daemon", "--port", "0")
        processes.append(process)
        process, server = started(program, root / "server.log", "serve")
        processes.append(process)
        run = Live(program, daemon, server)

        def champion():
            return run.metric("contlearn_promoted_version")

        program.drop("first.jsonl", classified(FIRST, 100))
        wait_for(lambda: champion() == 1)
        wait_for(lambda: httpx.get(f"{server}/health/ready").status_code == 200)
        run.ask(classified(FIRST, 10, seed=20))
        (program.root / "inbox" / "broken.jsonl").write_text('{"text": "no label"}\nnot JSON\n')
        program.drop("second.jsonl", classified(SECOND, 100, seed=1))
        wait_for(lambda: champion() == 2)
        wait_for(lambda: httpx.get(f"{server}/status").json()["version"] == 2)
        poisoned = classified([*FIRST, *SECOND], 40, seed=2)
        labels = [row["label"] for row in poisoned]
        random.Random(5).shuffle(labels)
        shuffled = [{**r, "label": name} for r, name in zip(poisoned, labels, strict=True)]
        program.drop("shuffled.jsonl", shuffled)
        wait_for(lambda: run.metric("contlearn_runs_total", 'outcome="refused"'))
        # From here on nothing is learnt: the labels that come back stay where they are.
        text = (program.root / "contlearn.toml").read_text()
        later = text.replace("min_new_records = 100", "min_new_records = 100000")
        (program.root / "contlearn.toml").write_text(later)
        processes[0].send_signal(signal.SIGHUP)
        # The first version answers beside the second, unseen.
        httpx.post(
            f"{server}/models/tickets/roles",
            json={"shadow": {"version": 1, "share": 1.0}},
            headers={"authorization": f"Bearer {TOKEN}-control"},
        ).raise_for_status()
        run.ask(classified([*FIRST, *SECOND], 40, seed=3))
        run.labelled(classified([*FIRST, *SECOND], 20, seed=4))
        wait_for(lambda: run.metric("contlearn_measured_accuracy_records"))
        yield run
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)


@pytest.fixture(scope="module")
def query(live, tmp_path_factory):
    """A Prometheus that has scraped both for some seconds, while the server answered."""
    daemon, server = (a.removeprefix("http://") for a in (live.daemon, live.server))
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, daemon=daemon, server=server) as ask:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            # Few: the labels that came back stay within the window that is looked at.
            live.ask(classified(FIRST, 1, seed=9))
            time.sleep(0.6)
        yield ask


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def scraped(address, accept="text/plain"):
    request = urllib.request.Request(f"{address}/metrics", headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("name", ["daemon", "server"])
def test_promtool_has_nothing_to_say_about_a_live_scrape(live, name):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    text = scraped(getattr(live, name))
    assert text.count("contlearn_") > 100
    done = subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_would_say_what_is_wrong():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    bad = "# TYPE contlearn_bad_milliseconds counter\ncontlearn_bad_milliseconds 1\n"
    done = subprocess.run(
        [program, "check", "metrics"], input=bad, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "_total" in done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_of_a_dashboard_returns_data_after_a_run(query, path):
    asked = queries_of(json.loads(path.read_bytes()), "tickets")
    assert [(title, expression) for title, expression in asked if not query(expression)] == []


def test_label_rates_of_named_slices_reach_command_page_and_metrics(live, tmp_path):
    slices = {item["slice"]: item for item in live.program.json("evaluate")["text_slices"]}
    assert slices["rare"]["rows"] == 0
    leisure = slices["leisure"]
    assert leisure["rows"] + leisure["rows_outside"] >= 100
    # The texts of the slice have these two labels and no other; nothing outside has them.
    rates = {item["label"]: item for item in leisure["labels"]}
    garden, music = rates["garden"], rates["music"]
    assert garden["true_rate"] + music["true_rate"] == pytest.approx(1.0)
    assert garden["true_rate_outside"] == music["true_rate_outside"] == 0.0
    assert garden["p_value"] < 0.01
    assert music["p_value"] < 0.01
    largest = max(abs(item["rate"] - item["rate_outside"]) for item in leisure["labels"])
    shown = live.metric("contlearn_slice_label_difference_ratio", 'slice="leisure"')
    assert shown == pytest.approx(largest)
    assert live.metric("contlearn_slice_label_difference_ratio", 'slice="rare"') is None
    path = tmp_path / "version.html"
    live.program.run("report", 2, "--output", path)
    assert "Slices by text" in path.read_text()
    assert "too few rows" in path.read_text()


SCREENS = [(390, False), (390, True), (1000, False), (1000, True)]
WHITE, NIGHT = "rgb(255, 255, 255)", "rgb(13, 17, 23)"


def check_page(page, address, name, *, width, dark):
    """Open a page without a script: nothing is said, fetched, cut off or led to nowhere."""
    seen = page.open(address, width=width, dark=dark)
    page.picture(f"{name}-{'dark' if dark else 'light'}-{width}")
    assert page.console == []
    assert seen.fetched == []
    assert (seen.scrolls, seen.wide, seen.dead, seen.broken) == (0, [], [], [])
    assert seen.viewport.startswith("width=device-width")
    assert seen.background == (NIGHT if dark else WHITE)
    return seen


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_the_daemons_page_of_today_opens_on_any_screen(live, page, width, dark):
    seen = check_page(page, f"{live.daemon}/", "daemon", width=width, dark=dark)
    assert seen.title == "tickets: today"
    for words in ("version 2 since", "refused", "promoted", "measured in production"):
        assert words in seen.text


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_the_history_opens_on_any_screen(live, page, tmp_path, width, dark):
    path = tmp_path / "history.html"
    live.program.run("report", "--all", "--output", path)
    seen = check_page(page, path.as_uri(), "history", width=width, dark=dark)
    assert seen.title == "tickets: history"
    for words in ("version 2 since", "refused", "promoted", "measured in production"):
        assert words in seen.text


def test_worst_flips_of_a_refused_version_show_the_words_that_decided(live, page, tmp_path):
    # The tiny model makes no such mistake by itself: one of its answers is turned into another.
    stored = live.program.root / "versions" / "3" / "scores.json"
    value = json.loads(stored.read_bytes())
    first = value["sets"][0]
    targets = unpack_targets(first["targets"])
    answers = list(unpack_targets(first["challenger"]))
    place = next(
        p for p, before in enumerate(unpack_targets(first["champion"])) if before == targets[p]
    )
    answers[place] = next(name for name in FIRST if name != targets[place])
    first["challenger"].update(pack_targets(answers))
    stored.chmod(0o644)
    stored.write_text(json.dumps(value))
    path = tmp_path / "flips.html"
    value = live.program.json("report", 3, "--flips", 3, "--output", path)
    assert value["version"] == 3
    assert (targets[place], answers[place]) in {
        (f["expected"], f["answer"]) for f in value["flips"]
    }
    assert 1 <= len(value["flips"]) <= 3
    for flip in value["flips"]:
        assert flip["expected"] != flip["answer"]
        words = flip["explanation"]["words"]
        assert [flip["text"][w["start"] : w["end"]] for w in words] == [w["text"] for w in words]
        assert any(word["weight"] for word in words)
    confidences = [flip["confidence"] for flip in value["flips"]]
    assert confidences == sorted(confidences, reverse=True)
    seen = page.open(path.as_uri(), width=390)
    page.picture("flips-light-390")
    assert page.console == []
    assert (seen.scrolls, seen.wide) == (0, [])
    assert "Worst flips" in seen.text
    assert value["flips"][0]["text"] in seen.text
