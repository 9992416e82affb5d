"""One holder at a time: races with wrong clocks and PID namespaces, and daemons that are stopped.

python -m tests.benchmarks.leases races [ROUNDS] [sqlite]
python -m tests.benchmarks.leases stops [RANDOM] [WRITING] [SEED]
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.common import append_row
from tests.postgres import postgres
from tests.races import KINDS, SKEWS, Races, may_unshare
from tests.soak import small_disk
from tests.stops import LEASE_SECONDS, stops


def races(rounds: int, *, server: bool = True) -> int:
    wrong = 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = {"SQLite": f"sqlite:///{folder}/c.sqlite"}
        if server:
            urls["PostgreSQL"] = stack.enter_context(postgres())
        for name, url in urls.items():
            found = Races(url, rounds).run()
            print(json.dumps(found, indent=1))
            wrong += len(found["problems"])
            told = sum(found[f"{kind}: told that it is held"] for kind in KINDS)
            where = "PID namespaces of their own" if may_unshare() else "one PID namespace"
            append_row(
                "daemon",
                {
                    "measure": f"races for a lease, {name}: rounds with two holders, none, or an error",
                    "value": len(found["problems"]),
                    "unit": "rounds",
                    "beside": (
                        f"of {rounds} of {found['racers']} processes in {where}, clocks wrong by "
                        f"{min(SKEWS)} to {max(SKEWS)} s; the lease new, given back, run out, held, the "
                        f"database empty; {told} times told that it is held; {found['seconds']} s"
                    ),
                },
            )
    return 1 if wrong else 0


def stopped(random_stops: int, writing_stops: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary), 300) as root:
        found = stops(root, random_stops, writing_stops, seed)
        print(json.dumps(found, indent=1))
        if found["problems"]:
            print("".join((root / "daemon.log").read_text().splitlines(keepends=True)[-100:]))
    for kind, where in (("random", "at random"), ("writing", "inside its write transaction")):
        took = found.get(f"{kind}_followed_seconds")
        if took is None:
            continue
        append_row(
            "daemon",
            {
                "measure": f"daemon stopped (SIGSTOP) {where}: longest time until it was followed",
                "value": took["longest"],
                "unit": "s",
                "beside": (
                    f"{found[f'{kind}_stops']} stops, "
                    f"{found[f'{kind}_stops_in_a_transaction']} of them inside a transaction; median "
                    f"{took['median']} s, limit {2 * LEASE_SECONDS:g} s (twice the lease); "
                    f"{found['rows']} rows, each learnt once or held with a reason; "
                    f"{len(found['problems'])} problems"
                ),
            },
        )
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    what, numbers = sys.argv[1], [int(word) for word in sys.argv[2:] if word.isdigit()]
    if what == "races":
        sys.exit(races(*(numbers or [200]), server="sqlite" not in sys.argv[2:]))
    sys.exit(stopped(*(numbers + [200, 20, 0][len(numbers) :])))
