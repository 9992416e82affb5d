"""What watching costs: a look over 10,000 logged answers, and the log's share of serving.

    python -m tests.benchmarks.drift_costs [--serving] [--rounds 7]

Both are CPU seconds of the process that does the work, so that a busy machine changes little. The
log: two servers of the same int8 6-layer encoder, one with the log and one without, asked in turn
by the same client; the share is the median over rounds of the CPU one spends more than the other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from contlearn.inference.manifest import describe_files
from contlearn.workspace import write_json_atomic
from tests.benchmarks import encoded
from tests.benchmarks.common import append_row
from tests.logged import log_answers, logged_workspace
from tests.served import make_workspace, point_to


def look_at_ten_thousand(root: Path) -> None:
    from contlearn.operations.drift import look

    with logged_workspace(root / "looked") as context:
        log_answers(context, 10_000, seed=1)
        cpu, wall = [], []
        for _ in range(3):
            before, begun = time.process_time(), time.perf_counter()
            look(context, window=1_000)
            cpu.append(time.process_time() - before)
            wall.append(time.perf_counter() - begun)
    append_row(
        "drift",
        {
            "measure": "one look, 10,000 logged predictions",
            "value": round(statistics.median(cpu), 2),
            "unit": "CPU s",
            "required": "at most 2 s",
            "beside": f"median of 3, the first with the reference made and frozen "
            f"({cpu[0]:.2f}); wall {statistics.median(wall):.2f} s at load "
            f"{os.getloadavg()[0]:.0f}; reading, all detectors, explanation, accuracy",
        },
    )


def cost_of_a_record(root: Path) -> None:
    """Compare writing an answer down with making it; the least of many, which nobody disturbs."""
    from contlearn.monitoring.prediction_log import LoggedPrediction, PredictionLog
    from contlearn.workspace import SystemClock

    texts, _ = encoded.read("intent/clinc150/dev.jsonl")
    predictor = encoded._predictor()
    answers = predictor.predict_detailed([{"text": text} for text in texts[:200]])
    log = PredictionLog(root / "log", SystemClock())
    made, written = [], []
    for number in range(40):
        begun = time.perf_counter()
        predictor.predict_detailed([{"text": texts[number % 200]}])
        made.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for place, answer in enumerate(answers):
            log.add(
                LoggedPrediction(
                    time=1e9, request_id=f"r{place}", index=0, version=1, labels=("a",),
                    confidence=0.9, characters=len(texts[place]), tokens=answer.tokens,
                    unknown_ratio=0.0, projection=answer.projection,
                    logits=answer.logits[:150], text=texts[place],
                )
            )  # fmt: skip
        log.flush()
        written.append((time.perf_counter() - begun) / len(answers))
    append_row(
        "drift",
        {
            "measure": "writing an answer to the log, against making it",
            "value": round(100 * min(written) / min(made), 1),
            "unit": "%",
            "required": "at most 5 %",
            "beside": f"{1e6 * min(written):.0f} µs against {1e3 * min(made):.2f} ms for one short "
            "text in the int8 6-layer encoder on one core, 150 labels; least of 40 in turn; "
            "HTTP, which the log does not change, is not counted",
        },
    )


def serve(root: Path, name: str, *, log: bool) -> tuple[psutil.Process, str]:
    """Start `contlearn serve` and wait until it answers."""
    extra = f"threads = 1\n[monitoring]\nlog_predictions = {'true' if log else 'false'}\n"
    workspace = make_workspace(root / name, extra=extra)
    serving = workspace.root / "serving" / "tickets"
    folder = serving / "1"
    shutil.copytree(encoded.WORK / "model", folder)
    manifest = {
        "format_version": 1,
        "version": 1,
        "files": {f"onnx/{n}": facts for n, facts in describe_files(folder).items()},
        "model": {
            "task": "text-classification",
            "labels": [f"d{number:03d}" for number in range(encoded.WIDTH)],
            "max_tokens": encoded.MAX_TOKENS,
            "temperature": 1.0,
            "precision": "int8",
            "processor": [],
        },
    }
    from contlearn.inference.processor import processor_features

    manifest["model"]["processor"] = list(processor_features())
    write_json_atomic(folder / "manifest.json", manifest)
    point_to(serving, 1, 1)
    log_file = root / f"{name}.log"
    with log_file.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "contlearn", "--workspace", str(workspace.root), "serve"],
            stdout=output, stderr=output,
        )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = re.search(r"http://127\.0\.0\.1:\d+", log_file.read_text())
        if found:
            try:
                if httpx.get(found[0] + "/health/ready", timeout=5).status_code == 200:
                    return psutil.Process(process.pid), found[0]
            except httpx.TransportError:
                pass
        time.sleep(0.3)
    raise SystemExit(f"the server did not start: {log_file.read_text()}")


def share_of_the_log(root: Path, rounds: int) -> None:
    texts, _ = encoded.read("intent/clinc150/dev.jsonl")
    bodies = [json.dumps({"texts": [text], "top": 1}) for text in texts[:200]]
    servers = {name: serve(root, name, log=name == "with") for name in ("with", "without")}

    def spend(name: str) -> float:
        process, address = servers[name]
        before = sum(process.cpu_times()[:2])
        with httpx.Client(base_url=address, timeout=60) as client:
            for body in bodies:
                client.post(
                    "/predict", content=body, headers={"content-type": "application/json"}
                ).raise_for_status()
        time.sleep(0.8)  # the writer's last batch belongs to this round
        return sum(process.cpu_times()[:2]) - before

    try:
        for name in servers:
            spend(name)  # warm up
        ratios, spent = [], []
        for number in range(rounds):
            order = ("with", "without") if number % 2 else ("without", "with")
            taken = {name: spend(name) for name in order}
            ratios.append(taken["with"] / taken["without"] - 1)
            spent.append(taken["without"] / len(bodies))
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait(30)
    ratios.sort()
    append_row(
        "drift",
        {
            "measure": "share of the prediction log in serving",
            "value": round(100 * statistics.median(ratios), 1),
            "unit": "% more CPU",
            "required": "at most 5 %",
            "beside": f"{rounds} interleaved rounds of {len(bodies)} requests of one short text; "
            f"from {100 * ratios[0]:.1f} to {100 * ratios[-1]:.1f}; a request takes "
            f"{1e3 * statistics.median(spent):.1f} CPU ms without the log; 384 labels",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serving", action="store_true", help="two servers; a quiet machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        look_at_ten_thousand(Path(folder))
        cost_of_a_record(Path(folder))
        if options.serving:
            share_of_the_log(Path(folder), options.rounds)


if __name__ == "__main__":
    main()
