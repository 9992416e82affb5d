"""Simulated months of the daemon with 1,000 kills: see tests/soak.py for what is real in it.

python -m tests.benchmarks.soak [KILLS] [SEED]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.common import append_row
from tests.soak import Soak, small_disk


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary), 300) as root:
        found = Soak(root, kills=kills, seed=seed, pause=(0.05, 1.2)).run()
        print(json.dumps(found, indent=1))
        if found["problems"]:
            print("".join((root / "daemon.log").read_text().splitlines(keepends=True)[-100:]))
            return 1
    memory = found["memory"]
    cycles = {
        name.removeprefix("outcome_"): number
        for name, number in found.items()
        if name.startswith("outcome_")
    }
    triggers = {
        name.removeprefix("trigger_"): number
        for name, number in found.items()
        if name.startswith("trigger_")
    }
    for measure, value, unit, beside in (
        (
            "soak: daemon killed by SIGKILL at random",
            found["kills"],
            "kills",
            (
                f"{found['days']} simulated days in {found['seconds']} s; trainer scripted, all else real; "
                f"clock set back {found['jumps_back']} and forward {found['jumps_forward']} times, disk "
                f"filled {found.get('full_disks', 0)} times, {found['second_daemons']} second daemons"
            ),
        ),
        (
            "soak: rows neither learnt exactly once nor held with a reason",
            0,
            "rows",
            (
                f"of {found['rows']}: {found.get('records_learnt', 0)} learnt, "
                f"{found.get('records_held', 0)} held"
            ),
        ),
        (
            "soak: cycles run twice for one cause",
            0,
            "cycles",
            f"outcomes {cycles}, causes {triggers}, {found['rollbacks']} rollbacks by itself",
        ),
        (
            "soak: looks at the served version that found it missing, torn or damaged",
            0,
            "looks",
            f"of {found['pointer_reads']}",
        ),
        (
            "soak: growth of the daemon's memory over the last six rounds",
            round(memory[-1] - memory[0], 1),
            "MB",
            f"resident {memory} MB, libraries of the forking driver included",
        ),
    ):
        append_row("daemon", {"measure": measure, "value": value, "unit": unit, "beside": beside})
    return 0


if __name__ == "__main__":
    sys.exit(main())
