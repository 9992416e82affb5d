"""How long commands take to start, and how much memory daemon and parent hold.

    python -m tests.benchmarks.startup

Medians over repeated runs of the installed program; each row beside `python -c pass` in the same run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from contlearn.testing import write_tiny_model
from tests.benchmarks.common import append_row
from tests.texts import WORDS, classified, write_rows

REPEATS = 15


def median_seconds(*command: str) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def peak_of(command: list[str], seconds: float | None = None) -> tuple[float, float]:
    """Give the largest resident memory and the share of one core, of this process alone."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        process, peak, began = psutil.Process(child.pid), 0, time.monotonic()
        share = 0.0
        while child.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                break
            elapsed = time.monotonic() - began
            share = (times.user + times.system) / elapsed
            if seconds is not None and elapsed > seconds:
                child.terminate()
                child.wait(timeout=60)
            time.sleep(0.05)
    if seconds is None and child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}")
    return peak / 1e6, share


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "ws"
        base = write_tiny_model(Path(temporary) / "tiny", words=WORDS)
        contlearn = [sys.executable, "-m", "contlearn"]
        subprocess.run(
            [*contlearn, "init", str(root), "--base", str(base)], check=True, capture_output=True
        )
        text = (
            (root / "contlearn.toml")
            .read_text()
            .replace("held_out_ratio = 0.1", "held_out_ratio = 0.25")
            .replace("max_tokens = 128", "max_tokens = 64")
        )
        (root / "contlearn.toml").write_text(text)
        bare = median_seconds(sys.executable, "-c", "pass")
        for name, arguments in (
            ("--help", ["--help"]),
            ("status", ["--workspace", str(root), "status"]),
        ):
            seconds = median_seconds(*contlearn, *arguments)
            append_row(
                "startup",
                {
                    "measure": f"contlearn {name}, median of {REPEATS}",
                    "value": round(seconds, 3),
                    "unit": "s",
                    "beside": f"python -c pass {bare:.3f} s",
                },
            )
        write_rows(root / "inbox" / "a.jsonl", classified(["billing", "shipping", "garden"], 60))
        peak, _ = peak_of([*contlearn, "--workspace", str(root), "update"])
        append_row(
            "startup",
            {
                "measure": "parent of a cycle, peak resident memory",
                "value": round(peak, 1),
                "unit": "MB",
                "beside": "limit 80",
            },
        )
        peak, share = peak_of(
            [*contlearn, "--workspace", str(root), "daemon", "--port", "0"], seconds=60
        )
        append_row(
            "startup",
            {
                "measure": "idle daemon, peak resident memory over 60 s",
                "value": round(peak, 1),
                "unit": "MB",
                "beside": "limit 80",
            },
        )
        append_row(
            "startup",
            {
                "measure": "idle daemon, share of one core over 60 s, start included",
                "value": round(100 * share, 2),
                "unit": "%",
                "beside": "",
            },
        )
        status = json.loads(
            subprocess.run(
                [*contlearn, "--workspace", str(root), "status", "--json"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        print(json.dumps(status["champion"]))


if __name__ == "__main__":
    main()
