"""Processes racing for one lease, with clocks of their own and in PID namespaces of their own.

python -m tests.races URL ROUNDS

Each racer lives in a PID namespace (`unshare`, which needs root) and shares the host's name, as
containers do that are given one; its clock on the wall is wrong by its own amount (libfaketime
where it is installed, else `time.time` of the racer's process). Rounds are of five kinds: the
lease is new, was given back, ran out, is held, or the whole database is empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.leases import hold_lease
from contlearn.catalog.schema import leases
from contlearn.errors import ContlearnError, WorkspaceLocked

ROOT: Final = Path(__file__).parents[1]
LEASE: Final = "race"
SECONDS, HEARTBEAT = 2.0, 0.3
SKEWS: Final = (0, 90, -90, 3600, -3600, 86400, 7, -45)
KINDS: Final = ("new", "given back", "ran out", "held", "empty")


@dataclass
class Races:
    """Rounds of one race. `run` gives what was seen; `problems` must stay empty."""

    url: str
    rounds: int
    racers: int = 8
    seen: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    newest: int = 0

    def run(self) -> dict[str, Any]:
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            here = [stack.enter_context(_racer(self.url, SKEWS[n])) for n in range(self.racers)]
            for number in range(self.rounds):
                self._round(here, KINDS[number % len(KINDS)], number)
        return {
            "rounds": self.rounds,
            "racers": self.racers,
            "seconds": round(time.monotonic() - began),
            **self.seen,
            "problems": self.problems,
        }

    def _round(self, racers: list[subprocess.Popen[str]], kind: str, number: int) -> None:
        with contextlib.ExitStack() as stack:
            self._prepare(kind, stack)
            start = time.monotonic() + 0.15
            for racer in racers:
                _say(racer, {"start": start, "anew": kind == "empty"})
            answers = [_hear(racer) for racer in racers]
            for racer in racers:
                _say(racer, {"end": True})
            for racer in racers:
                _hear(racer)
        tokens = [a["token"] for a in answers if a["token"] is not None]
        failed = [a["error"] for a in answers if a["error"]]
        wanted = 0 if kind == "held" else 1
        self.seen[f"{kind}: rounds"] += 1
        self.seen[f"{kind}: told that it is held"] += sum(a["locked"] for a in answers)
        if len(tokens) != wanted:
            self.seen["rounds with a wrong number of holders"] += 1
            self.problems.append(f"round {number}, {kind}: tokens {tokens}")
        if failed:
            self.seen["rounds with an error"] += 1
            self.problems.append(f"round {number}, {kind}: {failed[0][:200]}")

    def _prepare(self, kind: str, stack: contextlib.ExitStack) -> None:
        if kind == "empty":
            self._empty()
            return
        catalog = stack.enter_context(Catalog(self.url))
        with catalog.write() as connection:
            if kind == "new":
                connection.execute(leases.delete().where(leases.c.name == LEASE))
            elif kind == "ran out":
                far = {"owner": "elsewhere:boot:ns:1:2", "expires_at": 1.0, "purpose": "racing"}
                connection.execute(leases.update().where(leases.c.name == LEASE).values(far))
        if kind == "held":
            stack.enter_context(_held(catalog))

    def _empty(self) -> None:
        url = sa.engine.make_url(self.url)
        if url.get_backend_name() == "sqlite":
            for end in ("", "-wal", "-shm"):
                Path(f"{url.database}{end}").unlink(missing_ok=True)
            return
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        engine.dispose()


@contextlib.contextmanager
def _held(catalog: Catalog) -> Iterator[None]:
    """Hold the lease from here: a live process that no racer can see."""
    with hold_lease(catalog, LEASE, purpose="racing", seconds=SECONDS, heartbeat_seconds=HEARTBEAT):
        yield


@contextlib.contextmanager
def _racer(url: str, skew: int) -> Iterator[subprocess.Popen[str]]:
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    environ = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    if library is not None:
        environ |= {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{skew:+d}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    program = [sys.executable, "-m", "tests.races", "--racer", url, str(skew)]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *program]
    with subprocess.Popen(
        alone if may_unshare() else program,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            facts = _hear(process)
            if may_unshare() and facts["pid"] > 20:
                raise AssertionError("the racer is in no PID namespace of its own")
            if abs(facts["now"] - time.time() - skew) > 30:
                raise AssertionError(f"the racer's clock is not wrong by {skew} s")
            yield process
        finally:
            process.kill()


def may_unshare() -> bool:
    """Say whether PID namespaces can be made here."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def race(url: str, skew: int) -> None:
    """Be a racer: at each start, try once to hold the lease, and keep it until told to end."""
    if "FAKETIME" in os.environ:
        # libfaketime turns the moment that `time.sleep` waits for into another, often none at all.
        time.sleep = lambda seconds: threading.Event().wait(seconds)
    else:
        real = time.time
        time.time = lambda: real() + skew
    print(json.dumps({"pid": os.getpid(), "now": time.time()}), flush=True)
    catalog: Catalog | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {"token": None, "locked": False, "error": None}
        end = threading.Event()
        if order["anew"] and catalog is not None:
            catalog.close()
            catalog = None
        while time.monotonic() < order["start"]:
            pass
        try:
            catalog = catalog or Catalog(url)
            with hold_lease(
                catalog, LEASE, purpose="racing", seconds=SECONDS, heartbeat_seconds=HEARTBEAT
            ) as answer["token"]:
                print(json.dumps(answer), flush=True)
                sys.stdin.readline()
                end.set()
        except WorkspaceLocked:
            answer["locked"] = True
        except (ContlearnError, sa.exc.SQLAlchemyError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        if not end.is_set():
            print(json.dumps(answer), flush=True)
            sys.stdin.readline()
        print("{}", flush=True)


def _say(racer: subprocess.Popen[str], value: dict[str, Any]) -> None:
    assert racer.stdin is not None
    racer.stdin.write(json.dumps(value) + "\n")
    racer.stdin.flush()


def _hear(racer: subprocess.Popen[str]) -> dict[str, Any]:
    assert racer.stdout is not None
    value: dict[str, Any] = json.loads(racer.stdout.readline())
    return value


if __name__ == "__main__":
    if sys.argv[1] == "--racer":
        race(sys.argv[2], int(sys.argv[3]))
    else:
        found = Races(sys.argv[1], int(sys.argv[2])).run()
        print(json.dumps(found, indent=1))
        sys.exit(1 if found["problems"] else 0)
