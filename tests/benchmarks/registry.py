"""Crash safety and speed of the registry.

    python -m tests.benchmarks.registry [faults] [pointer] [listing] [--stride 1]

1. Every file operation of registration, promotion, rollback, retention and recovery fails (disk
   full, input/output error, no permission) or is killed before, in its middle and after; each
   fault is one forked child and a real SIGKILL.
2. The promotion pointer: rollback and promotion between two versions whose copies are there, with
   verification of every hash and all flushes, but without loading the model.
3. The commands on a registry of 100 to 10 000 versions: see `registry_listing`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from contlearn.registry.promotion import promote, rollback
from contlearn.workspace import FileOperations
from tests.benchmarks import registry_listing
from tests.benchmarks.common import append_row
from tests.unit.registry import faults
from tests.unit.registry.staged import make_registry, promoted

LIMIT_SECONDS = 0.05
# What the scenarios of `faults` belong to.
GROUPS = {
    "register": "registration",
    "first promotion": "promotion",
    "promotion": "promotion",
    **dict.fromkeys(
        ("rollback", "rollback to a copied version", "rollback to a damaged copy"), "rollback"
    ),
    **dict.fromkeys(
        ("recovery of a deletion", "recovery backwards", "recovery forwards"), "recovery"
    ),
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def count_faults(results: Iterable[dict]) -> dict[str, object]:
    """Let faults happen; give how many there were and which left something wrong."""
    started = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    lost = []
    for result in results:
        counts[GROUPS.get(result["scenario"], result["scenario"])] += 1
        kinds["kills" if "kill" in result["fault"] else "errors"] += 1
        if result["problems"]:
            lost.append(result)
            say(f"  LOST {result}")
    total = sum(counts.values())
    say(f"Faults: {total}, lost: {len(lost)} ({time.monotonic() - started:.0f} s)")
    for name, count in counts.items():
        say(f"  {count:5}  {name}")
    return {"total": total, "lost": lost, "by_group": dict(counts), "by_kind": dict(kinds)}


def time_pointer(root: Path, turns: int) -> dict[str, float]:
    """Swap between two versions and give quantiles of one change, in seconds."""
    registry = make_registry(root)
    promoted(registry, "c1", "c2")
    seconds = []
    for turn in range(turns):
        started = time.perf_counter()
        if turn % 2:
            promote(registry, 2, actor="bench", reason="there")
        else:
            rollback(registry, actor="bench", reason="back")
        seconds.append(time.perf_counter() - started)
    values = {f"p{q}": float(np.quantile(seconds, q / 100)) for q in (50, 95, 99)}
    values["max"] = max(seconds)
    say("Pointer: " + ", ".join(f"{k} {1000 * v:.1f} ms" for k, v in values.items()))
    return values


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["faults", "pointer", "listing"])
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument(
        "--results",
        type=Path,
        nargs="*",
        help="Count what `python -m tests.unit.registry.faults` wrote, in one go or in slices.",
    )
    parser.add_argument("--versions", type=int, default=10_000)
    options = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        if "pointer" in options.parts:
            values = time_pointer(root / "pointer", 400)
            well = values["p99"] < LIMIT_SECONDS
            append_row(
                "registry",
                {
                    "measure": "one rollback or promotion, 99th percentile of 400",
                    "value": round(1000 * values["p99"], 1),
                    "unit": "ms",
                    "beside": f"median {1000 * values['p50']:.1f}, largest "
                    f"{1000 * values['max']:.1f} ms; required 50; every hash of a small version "
                    "checked, everything flushed, model not loaded",
                },
            )
            FileOperations().remove_tree(root / "pointer")
        if "listing" in options.parts:
            sizes = tuple(s for s in (100, 1_000, 10_000) if s <= options.versions)
            results = registry_listing.measure(root / "listing", sizes)
            for row in registry_listing.rows(results, os.getloadavg()[0]):
                append_row("registry", row)
    if "faults" in options.parts:
        found = count_faults(
            (json.loads(line) for path in options.results for line in path.open(encoding="utf-8"))
            if options.results
            else faults.run(options.stride)
        )
        well = well and not found["lost"]
        append_row(
            "registry",
            {
                "measure": "faults at operations of the file layer, lost",
                "value": len(found["lost"]),
                "unit": f"of {found['total']}",
                "beside": ", ".join(f"{n} {count}" for n, count in found["by_group"].items())
                + "; "
                + ", ".join(f"{count} {name}" for name, count in found["by_kind"].items()),
            },
        )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
