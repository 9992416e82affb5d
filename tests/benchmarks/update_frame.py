"""What an update costs besides learning: imports, processes, export, with a model of 100 kB.

    python -m tests.benchmarks.update_frame [--before FOLDER]

Processor seconds of all processes together, which other work on the machine changes little;
medians. With --before, another checkout of contlearn is measured in turns with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from contlearn.testing import write_tiny_model
from tests.benchmarks.common import append_row
from tests.texts import WORDS, classified, write_rows

HERE = Path(__file__).parents[2]
REPEATS = 5


def environment(code: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}


def importing(code: Path) -> dict[str, float]:
    """Give processor seconds and peak memory of importing avalanche's part, beyond torch's."""
    moved = (code / "contlearn/training/avalanche/bridge.py").exists()
    module = "contlearn.training." + ("avalanche.bridge" if moved else "avalanche_bridge")
    program = (
        "import torch, time, resource; t = time.process_time();"
        f"import {module}; r = resource.getrusage(resource.RUSAGE_SELF);"
        "print(time.process_time() - t, r.ru_maxrss / 1e3)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment(code), cwd=code, check=True, capture_output=True, text=True
    )
    seconds, peak = map(float, done.stdout.split())
    return {"seconds": seconds, "MB": peak}


def spent(process: psutil.Process) -> float:
    """Give the processor seconds of a process, of its children, and of those that have ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def updating(code: Path, root: Path) -> dict[str, float]:
    """Run a whole first update; note what was spent when the first step was done."""
    command = [sys.executable, "-m", "contlearn", "--workspace", str(root), "update"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = 0.0
    with subprocess.Popen(
        command, env=environment(code), cwd=code, stdout=subprocess.DEVNULL
    ) as program:
        process = psutil.Process(program.pid)
        while program.poll() is None:
            time.sleep(0.02)
            for progress in () if first else (root / "state/cycles").glob("*/progress.json"):
                told = json.loads(progress.read_bytes())
                if told["stage"] != "training" or told["done"]:
                    first = spent(process)
    if program.returncode:
        raise RuntimeError(f"the update ended with {program.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (marker,) = (root / "state/cycles").glob("*/done-deciding.json")
    return {
        "first step": first,
        "whole": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "MB": json.loads(marker.read_bytes())["peak_bytes"] / 1e6,
    }


def fresh_workspace(code: Path, root: Path, base: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    contlearn = [sys.executable, "-m", "contlearn", "init", str(root), "--base", str(base)]
    subprocess.run(contlearn, env=environment(code), cwd=code, check=True, capture_output=True)
    file = root / "contlearn.toml"
    text = file.read_text(encoding="utf-8").replace("max_tokens = 128", "max_tokens = 64")
    file.write_text(text.replace("held_out_ratio = 0.1", "held_out_ratio = 0.25"), encoding="utf-8")
    write_rows(root / "inbox" / "a.jsonl", classified(["billing", "shipping", "garden"], 60))
    return root


def in_turns(
    before: Path | None, measure: Callable[[Path], dict[str, float]]
) -> tuple[dict[str, float], dict[str, float] | None]:
    """Measure both checkouts in turns; give the medians of each."""
    rounds: dict[Path, list[dict[str, float]]] = {}
    for _ in range(REPEATS):
        for code in (HERE, before):
            if code is not None:
                rounds.setdefault(code, []).append(measure(code))
    medians = {
        code: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for code, each in rounds.items()
    }
    return medians[HERE], medians.get(before) if before is not None else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turns")
    before: Path | None = parser.parse_args().before

    def tell(measure: str, unit: str, now: float, then: float | None) -> None:
        beside = "" if then is None else f"before: {then:.3g}"
        append_row(
            "frame",
            {"measure": measure, "value": float(f"{now:.3g}"), "unit": unit, "beside": beside},
        )

    now, then = in_turns(before, importing)
    tell(
        "importing avalanche's part after torch", "CPU s", now["seconds"], then and then["seconds"]
    )
    tell("peak memory then", "MB", now["MB"], then and then["MB"])
    with tempfile.TemporaryDirectory() as temporary:
        base = write_tiny_model(Path(temporary) / "tiny", words=WORDS)
        root = Path(temporary) / "ws"
        now, then = in_turns(before, lambda code: updating(code, fresh_workspace(code, root, base)))
    tell("from `update` to the first step", "CPU s", now["first step"], then and then["first step"])
    tell("whole first update", "CPU s", now["whole"], then and then["whole"])
    tell("peak memory of the child", "MB", now["MB"], then and then["MB"])


if __name__ == "__main__":
    main()
