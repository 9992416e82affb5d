"""How fast files are taken in, with how much memory, and whether kills lose anything.

    python -m tests.benchmarks.ingest                speed, memory, and a store of five million
    python -m tests.benchmarks.ingest --only plain   one of these: plain, near, store
    python -m tests.benchmarks.ingest --kills 300    scans killed at random moments

Each measure runs in a process of its own; rows beside pyarrow's own JSON reader in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.common import append_row

WORDS = [
    first + last
    for first in ("or", "pa", "bi", "re", "la", "mo", "ti", "ca", "de", "fu")
    for last in ("der", "cel", "ll", "fund", "te", "ney", "cket", "rd", "livery", "ture")
]
LABELS = [f"class {number}" for number in range(50)]
REPEATS = 5
SMALL_ROWS = 10_000
FILE_ROWS = 100_000


def write_rows(path: Path, rows: int, seed: int) -> Path:
    """Write short rows, all different: eight words, a number, one of fifty labels."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for _ in range(rows):
            text = " ".join(rng.choices(WORDS, k=8)) + f" {rng.getrandbits(50)}"
            file.write(json.dumps({"text": text, "label": rng.choice(LABELS)}) + "\n")
    return path


def child(*arguments: object) -> dict[str, Any]:
    """Run one measure in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.ingest", "--child", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(root: Path, file: Path, *, near: bool) -> dict[str, Any]:
    """Take one file in, and say how long that took and how large the process became."""
    from tests.unit.data.taking import make_config, taker

    with taker(root, make_config(near_duplicates=near)) as taking:
        began, cpu = time.perf_counter(), time.process_time()
        report = taking.ingest(file)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": report["rows"],
        "accepted": report["accepted"],
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak / 1e6,
    }


def measure_pyarrow(file: Path) -> dict[str, Any]:
    """Read the same file with pyarrow's JSON reader, on one thread; nothing is checked or kept."""
    import pyarrow.json

    began, cpu = time.perf_counter(), time.process_time()
    options = pyarrow.json.ReadOptions(use_threads=False)
    rows = pyarrow.json.read_json(file, read_options=options).num_rows
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"rows": rows, "seconds": seconds, "cpu_seconds": cpu}


def fill(root: Path, rows: int) -> dict[str, Any]:
    """Put many records into a catalog, file by file, without texts: look-ups see ids alone.

    The held-out reserve of the near-duplicate search is full, as it is in a store of that size.
    """
    import numpy as np

    from contlearn.data.intake.neighbours import BANDS, PERMUTATIONS, Reserve
    from contlearn.workspace import FileOperations
    from tests.unit.data.taking import make_config, taker

    rng = np.random.default_rng(0)
    capacity = make_config().data.near_duplicate_reserve
    with taker(root) as taking, taking.catalog.write() as connection:
        connection.exec_driver_sql(
            "insert into files (file_id, content_hash, name, held_out, settings, received_at, "
            "verdict, rows, accepted, duplicates, conflicts, rejected) values "
            "(1, 'x', 'x', 0, 'x', '2026-01-01T00:00:00+00:00', 'ok', 0, 0, 0, 0, 0)"
        )
        for first in range(1, rows + 1, FILE_ROWS):
            ids = sorted(os.urandom(16).hex() for _ in range(min(FILE_ROWS, rows + 1 - first)))
            connection.exec_driver_sql(
                "insert into records (seq, record_id, file_id, row, split, state, attempts, key, "
                "size_bytes, received_at) values (?, ?, 1, ?, 'train', 'learnt', 0, 'class 1', 60, "
                "'2026-01-01T00:00:00+00:00')",
                [(first + n, record_id, n) for n, record_id in enumerate(ids)],
            )
        taking.catalog.ids.refresh(connection)
        Reserve(taking.workspace.records / "reserve.bin", capacity).add(
            rng.integers(0, 2**32, (capacity, BANDS), dtype=np.uint32),
            rng.integers(0, 2**8, (capacity, PERMUTATIONS), dtype=np.uint8),
            FileOperations(),
        )
    return {"rows": rows}


def measure_small(root: Path, folder: Path, *, near: bool) -> dict[str, Any]:
    """Take in small files one after the other; the first warms up and does not count."""
    from tests.unit.data.taking import make_config, taker

    times, cpu = [], []
    with taker(root, make_config(near_duplicates=near)) as taking:
        for number in range(REPEATS + 1):
            seed = 100 * (1 + near) + number
            path = write_rows(folder / f"small-{near}-{number}.jsonl", SMALL_ROWS, seed)
            began, used = time.perf_counter(), time.process_time()
            taking.ingest(path)
            times.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
    return {"seconds": statistics.median(times[1:]), "cpu": statistics.median(cpu[1:])}


def speed(folder: Path, rows: int, *, nears: tuple[bool, ...]) -> None:
    file = write_rows(folder / "rows.jsonl", rows, seed=1)
    for near in nears:
        reader = child("pyarrow", file)
        found = child("measure", folder / f"ws-{near}", file, near)
        append_row(
            "ingest",
            {
                "measure": "one file",
                "near_duplicates": near,
                "rows": found["rows"],
                "rows_per_second": round(found["rows"] / found["seconds"]),
                "rows_per_cpu_second": round(found["rows"] / found["cpu_seconds"]),
                "peak_mb": round(found["peak_mb"]),
                "times_pyarrow_json": round(found["seconds"] / reader["seconds"], 1),
                "cpu_times_pyarrow_json": round(found["cpu_seconds"] / reader["cpu_seconds"], 1),
                "load": round(os.getloadavg()[0], 1),
            },
        )


def store(folder: Path, rows: int) -> None:
    """Ten thousand rows into an empty store, and into one that is large already."""
    child("fill", folder / "large", rows)
    for near in (False, True):
        found = {
            name: child("small", folder / root, folder, near)
            for name, root in (("empty", f"empty-{near}"), ("large", "large"))
        }
        append_row(
            "ingest",
            {
                "measure": "10 000 rows",
                "near_duplicates": near,
                "store_rows": rows,
                "seconds_empty": round(found["empty"]["seconds"], 3),
                "seconds_large": round(found["large"]["seconds"], 3),
                "ratio": round(found["large"]["seconds"] / found["empty"]["seconds"], 2),
                "cpu_ratio": round(found["large"]["cpu"] / found["empty"]["cpu"], 2),
                "load": round(os.getloadavg()[0], 1),
            },
        )


def kills(number: int, seed: int, longest: float) -> None:
    command = [sys.executable, "-m", "tests.unit.data.killing"]
    options = ["--kills", str(number), "--seed", str(seed), "--longest", str(longest)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    append_row("ingest", {"measure": "kills", "seed": seed, **json.loads(done.stdout)})


def run_child(arguments: list[str]) -> dict[str, Any]:
    name, *rest = arguments
    if name == "pyarrow":
        return measure_pyarrow(Path(rest[0]))
    if name == "fill":
        return fill(Path(rest[0]), int(rest[1]))
    if name == "small":
        return measure_small(Path(rest[0]), Path(rest[1]), near=rest[2] == "True")
    return measure(Path(rest[0]), Path(rest[1]), near=rest[2] == "True")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--store", type=int, default=5_000_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--only", choices=["plain", "near", "store"])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--longest", type=float, default=0.15, help="processor seconds of a scan")
    parser.add_argument("--child", nargs="+")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_child(options.child)))
        return
    if options.kills:
        kills(options.kills, options.seed, options.longest)
        return
    with tempfile.TemporaryDirectory() as temporary:
        nears = {"plain": (False,), "near": (True,), "store": (), None: (False, True)}
        if nears[options.only]:
            speed(Path(temporary), options.rows, nears=nears[options.only])
        if options.only in ("store", None):
            store(Path(temporary), options.store)


if __name__ == "__main__":
    main()
