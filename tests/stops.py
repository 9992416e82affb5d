"""A daemon that is stopped (SIGSTOP) again and again, at random and inside its transactions.

python -m tests.stops RANDOM WRITING [SEED [WITHIN]]

As in `tests.soak` daemon, catalog, inbox, registry and processes are real, the trainer is scripted.
Two daemons live: one works, one stands by. The one that works is stopped; the other must have its
lease within WITHIN seconds, twice the time of a lease if that is left out. What was stopped goes on afterwards, unless it was ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.soak import Soak
from tests.stopping import stop_while_writing, writes_now

LEASE_SECONDS: Final = 2.0  # as in the soak's configuration
_GIVE_UP_SECONDS: Final = 60.0


@dataclass
class Stops(Soak):
    """Stops of the daemon that works. `run` gives what was seen, with the seconds of each."""

    random_stops: int = 0
    writing_stops: int = 0
    within_seconds: float = 2 * LEASE_SECONDS
    followed: dict[str, list[float]] = field(default_factory=dict)

    def _live(self) -> None:
        daemons = {self._start(), self._start()}
        try:
            kinds = ["random"] * self.random_stops + ["writing"] * self.writing_stops
            self.chance.shuffle(kinds)
            for kind in kinds:
                self._stop_one(kind, daemons)
        finally:
            for pid in daemons:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _stop_one(self, kind: str, daemons: set[int]) -> None:
        for _ in range(self.chance.randint(1, 2)):
            self._drop()
        victim = self._working(daemons)
        database = self.workspace.state / "catalog.sqlite"
        if kind == "writing":
            stop_while_writing(victim, database)
        else:
            time.sleep(self.chance.uniform(0.0, 1.5))
            os.kill(victim, signal.SIGSTOP)
        began = time.monotonic()
        self.seen[f"{kind}_stops"] += 1
        self.seen[f"{kind}_stops_in_a_transaction"] += writes_now(victim, database)
        while (now := self._holder()) == victim or now not in daemons:
            if self._replace_ended(daemons, but=victim):
                began = time.monotonic()  # nobody was there to follow
            if time.monotonic() - began > _GIVE_UP_SECONDS:
                self.problems.append(f"nobody followed a daemon that was stopped ({kind})")
                break
            time.sleep(0.01)
        seconds = time.monotonic() - began
        self.followed.setdefault(kind, []).append(round(seconds, 2))
        if seconds > self.within_seconds:
            self.problems.append(f"followed after {seconds:.2f} s only ({kind})")
        ended, _ = os.waitpid(victim, os.WNOHANG)
        if ended:
            self.seen["ended_by_the_other"] += 1
            daemons.discard(victim)
            daemons.add(self._start())
        else:
            os.kill(victim, signal.SIGCONT)

    def _replace_ended(self, daemons: set[int], *, but: int | None = None) -> bool:
        """Start another for each that was ended, and say whether there was one.

        Who follows may end the stopped one only after it has taken the lease, when that one was let
        go on already.
        """
        ended = [pid for pid in daemons - {but} if os.waitpid(pid, os.WNOHANG)[0]]
        for pid in ended:
            self.seen["ended_later"] += 1
            daemons.discard(pid)
            daemons.add(self._start())
        return bool(ended)

    def _working(self, daemons: set[int]) -> int:
        """Wait until one daemon works, and the other has had the time to stand by."""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        time.sleep(0.5)
        while self._replace_ended(daemons):
            time.sleep(0.5)
        while (pid := self._holder()) not in daemons:
            if time.monotonic() > deadline:
                raise AssertionError(f"no daemon works: {self._state()}")
            time.sleep(0.01)
        return int(pid)

    def _holder(self) -> int | None:
        """Give the process that holds the daemon's lease."""
        with contextlib.suppress(sqlite3.Error), self._catalog() as catalog:
            query = "select owner from leases where name = 'daemon' and expires_at > 0"
            row = catalog.execute(query).fetchone()
            return int(row[0].rsplit(":", 2)[1]) if row else None
        return None


def stops(
    root: Path,
    random_stops: int,
    writing_stops: int,
    seed: int,
    within_seconds: float = 2 * LEASE_SECONDS,
) -> dict[str, object]:
    """Run a life of stops, and say how long it took until each was followed."""
    life = Stops(
        root,
        kills=0,
        seed=seed,
        random_stops=random_stops,
        writing_stops=writing_stops,
        within_seconds=within_seconds,
    )
    found = life.run()
    for kind, seconds in life.followed.items():
        ordered = sorted(seconds)
        found[f"{kind}_followed_seconds"] = {
            "median": ordered[len(ordered) // 2],
            "longest": ordered[-1],
        }
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        chosen = int(sys.argv[3]) if len(sys.argv) > 3 else 0
        within = float(sys.argv[4]) if len(sys.argv) > 4 else 2 * LEASE_SECONDS
        result = stops(Path(temporary), int(sys.argv[1]), int(sys.argv[2]), chosen, within)
        print(json.dumps(result, indent=1))
        if result["problems"]:
            log = (Path(temporary) / "daemon.log").read_text().splitlines(keepends=True)
            print("".join(log[-60:]))
    sys.exit(1 if result["problems"] else 0)
