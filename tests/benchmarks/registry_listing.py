"""What the number of versions costs: the commands on a registry of 100 to 10 000 versions.

The versions were all registered and promoted, one after the other: three lines of the journal and
one cycle of the catalog each. Their folders hold a manifest alone; the newest two are whole, so that
they can be promoted. The model is not loaded, as in the measure of the pointer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np

from contlearn.catalog.schema import cycles
from contlearn.context import Context
from contlearn.errors import ContlearnError
from contlearn.operations.history import read_history
from contlearn.operations.init import make_workspace
from contlearn.operations.show import describe_version
from contlearn.registry.aliases import resolve_version
from contlearn.registry.promotion import promote, rollback
from contlearn.registry.versions import Registry
from contlearn.workspace import FileOperations
from tests.unit.registry.staged import facts, make_registry, stage, well

TURNS = 20
WHOLE = facts(training={}, export={})
# These read a directory or the whole journal, and grow with it.
LINEAR = {
    "list all numbers": "reads one directory",
    "an unknown version is refused": "reads one directory and the journal",
    "history --at before the first": "reads the journal",
}


def make(root: Path) -> Context:
    """Make a workspace with one promoted version."""
    made = root / "ws"
    make_workspace(made, task="text-classification", base="tiny", name="test")
    registry = make_registry(made)
    add(registry, "first")
    return Context.open(made, clock=registry.clock)


def add(registry: Registry, name: str) -> None:
    """Register and promote a whole version."""
    folder = stage(registry.workspace.root, name)
    parent = registry.champion()
    made = registry.register(folder, cycle_id=name, parent=parent, facts=WHOLE)
    promote(registry, made.version, actor="bench", reason=f"cycle {name}")


def fill(context: Context, size: int) -> None:
    """Write versions, journal and catalog up to a number, as updates one by one would."""
    registry = context.registry
    versions = registry.workspace.versions
    manifest = json.loads((versions / "1" / "manifest.json").read_bytes())
    lines = registry.journal.path.read_bytes().splitlines()
    last = json.loads(lines[-1])
    number, epoch = registry.numbers()[-1], int(last["epoch"])
    rows = []

    def write(event: str, **fields: object) -> None:
        entry = {"number": len(lines) + 1, "at": manifest["created_at"], "event": event, **fields}
        entry |= {"last_alias": None, "last_delete": None}
        entry["prev"] = hashlib.sha256(lines[-1]).hexdigest()
        lines.append(json.dumps(entry).encode())

    below = int(last["number"])
    while number < size:
        number, epoch = number + 1, epoch + 1
        folder = versions / str(number)
        folder.mkdir()
        data = json.dumps({**manifest, "version": number, "cycle": f"c{number}"}).encode()
        (folder / "manifest.json").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        write("register", version=number, parent=number - 1, manifest=digest, cycle=f"c{number}")
        change = {"epoch": epoch, "version": number, "previous": number - 1, "actor": "bench"}
        change |= {"reason": f"cycle c{number}", "force": False, "below": below}
        write("intent", kind="promote", **change)
        write("promote", **change, since=manifest["created_at"])
        below = len(lines)
        rows.append(
            {
                "cycle_id": f"c{number}", "trigger": "count", "state": "promoted", "promote": True,
                "outcome": "promoted", "strategy": "replay", "champion": number - 1,
                "version": number, "experience": number, "started_at": manifest["created_at"],
                "ended_at": manifest["created_at"], "attempts": 1, "metrics": {"accuracy": 0.9},
            }
        )  # fmt: skip
    registry.journal.path.write_bytes(b"\n".join(lines) + b"\n")
    with context.catalog.write() as connection:
        connection.execute(cycles.insert(), rows)


def deeds(context: Context, registry: Registry) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give what is timed, by name."""
    newest = registry.numbers()[-1]
    yield "history, first page", partial(read_history, context)
    now = context.clock.now()
    yield "history --at now", partial(read_history, context, at=now)
    long_ago = now - timedelta(days=9999)
    yield "history --at before the first", partial(read_history, context, at=long_ago)
    yield "show the newest version", partial(describe_version, context, newest)
    yield "resolve latest", partial(resolve_version, registry, "latest")
    yield "champion", registry.champion

    def unknown() -> None:
        with suppress(ContlearnError):
            registry.get(10**9)

    yield "list all numbers", registry.numbers
    yield "an unknown version is refused", unknown


def measure(root: Path, sizes: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """Give the median seconds of each deed, at several numbers of versions."""
    results = {}
    with make(root) as context:
        registry = make_registry(context.workspace.root, preflight=well)
        for size in sizes:
            fill(context, size - 2)
            add(registry, f"one before {size}")
            add(registry, f"last of {size}")
            assert not registry.journal.verify()
            row = {name: median(deed) for name, deed in deeds(context, registry)}
            row |= changes(registry)
            results[size] = row
            told = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in row.items())
            print(f"{size:6} versions: {told}", flush=True)
    FileOperations().remove_tree(root)
    return results


def changes(registry: Registry) -> dict[str, float]:
    """Time rollback and promotion in turns, and registering; the numbers made are taken back."""
    champion = registry.numbers()[-1]
    back, forth, registering = [], [], []
    for _ in range(TURNS):
        back.append(seconds(partial(rollback, registry, actor="bench", reason="back")))
        deed = partial(promote, registry, champion, actor="bench", reason="there")
        forth.append(seconds(deed))
    journal = registry.journal.path.read_bytes()
    for turn in range(TURNS):
        name = f"extra {champion} {turn}"
        folder = stage(registry.workspace.root, name)
        deed = partial(registry.register, folder, cycle_id=name, parent=champion, facts=WHOLE)
        registering.append(seconds(deed))
    for number in registry.numbers():
        if number > champion:
            FileOperations().remove_tree(registry.workspace.versions / str(number))
    registry.journal.path.write_bytes(journal)
    shutil.rmtree(registry.workspace.cycles, ignore_errors=True)
    return {
        "rollback": float(np.median(back)),
        "promote": float(np.median(forth)),
        "register": float(np.median(registering)),
    }


def median(deed: Callable[[], object]) -> float:
    """Do something once unseen, then time it."""
    deed()
    return float(np.median([seconds(deed) for _ in range(TURNS)]))


def seconds(deed: Callable[[], object]) -> float:
    """Time one deed."""
    started = time.perf_counter()
    deed()
    return time.perf_counter() - started


def rows(results: dict[int, dict[str, float]], load: float) -> Iterator[dict[str, object]]:
    """Give the rows of the results: the value at the largest size, beside the others."""
    *smaller, largest = results
    for name, value in results[largest].items():
        beside = ", ".join(f"{1000 * results[s][name]:.2f} ms at {s:,}" for s in smaller)
        grows = f"; {LINEAR[name]}" if name in LINEAR else ""
        yield {
            "measure": f"{name}, {largest:,} versions",
            "value": round(1000 * value, 2),
            "unit": "ms",
            "beside": f"{beside}{grows}; median of {TURNS}, warm; load average {load:.0f}",
        }
