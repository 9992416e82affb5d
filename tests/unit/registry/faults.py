"""Faults at every file operation of the registry: errors, kills before, in the middle and after.

Run as a program it forks a child for each fault, so that a kill is a real SIGKILL and nothing of
the victim's clean-up runs. One JSON object a fault goes to standard output.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contlearn.errors import ContlearnError
from contlearn.registry.aliases import set_alias
from contlearn.registry.promotion import promote, recover, rollback
from contlearn.registry.retention import apply_retention
from contlearn.registry.serving_copy import verify_serving
from contlearn.registry.versions import Registry
from contlearn.workspace import FileOperations
from tests.unit.registry.staged import facts, make_registry, promoted, register, stage

ERRORS = ("ENOSPC", "EIO", "EACCES")
KILLS = ("kill-before", "kill-half", "kill-after")


class FaultyFiles(FileOperations):
    """Counts operations, and fails or kills at one of them."""

    def __init__(self, at: int = -1, fault: str = "") -> None:
        self.at = at
        self.fault = fault
        self.count = 0
        self.names: list[str] = []

    def _do(
        self, name: str, whole: Callable[[], None], half: Callable[[], None] | None = None
    ) -> None:
        number = self.count
        self.count += 1
        self.names.append(name)
        if number != self.at:
            whole()
            return
        if self.fault == "kill-before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "kill-half":
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "kill-after":
            whole()
            os.kill(os.getpid(), signal.SIGKILL)
        if half is not None:
            half()
        raise OSError(getattr(errno, self.fault), os.strerror(getattr(errno, self.fault)))

    def write(self, path, data):
        self._do("write", lambda: super(FaultyFiles, self).write(path, data),
                 lambda: super(FaultyFiles, self).write(path, data[: len(data) // 2]))  # fmt: skip

    def append(self, path, data):
        self._do("append", lambda: super(FaultyFiles, self).append(path, data),
                 lambda: super(FaultyFiles, self).append(path, data[: len(data) // 2]))  # fmt: skip

    def copy(self, source, target):
        self._do("copy", lambda: super(FaultyFiles, self).copy(source, target),
                 lambda: target.write_bytes(source.read_bytes()[:100]))  # fmt: skip

    def fsync_file(self, path):
        self._do("fsync_file", lambda: super(FaultyFiles, self).fsync_file(path))

    def fsync_folder(self, folder):
        self._do("fsync_folder", lambda: super(FaultyFiles, self).fsync_folder(folder))

    def rename(self, source, target):
        self._do("rename", lambda: super(FaultyFiles, self).rename(source, target))

    def symlink(self, target, link):
        self._do("symlink", lambda: super(FaultyFiles, self).symlink(target, link))

    def make_folder(self, path):
        self._do("make_folder", lambda: super(FaultyFiles, self).make_folder(path))

    def set_mode(self, path, mode):
        self._do("set_mode", lambda: super(FaultyFiles, self).set_mode(path, mode))

    def unlink(self, path):
        self._do("unlink", lambda: super(FaultyFiles, self).unlink(path))

    def remove_tree(self, path):
        def half() -> None:
            files = [p for p in sorted(path.rglob("*")) if p.is_file()]
            for file in files[: len(files) // 2]:
                file.parent.chmod(0o755)
                file.unlink()

        self._do("remove_tree", lambda: super(FaultyFiles, self).remove_tree(path), half)


@dataclass(frozen=True)
class Scenario:
    """A workspace before, what is done in it, and the champion and versions it must end with."""

    name: str
    prepare: Callable[[Registry], None]
    act: Callable[[Registry], None]
    champions: tuple[int | None, ...]  # those that may be served right after the fault
    champion: int | None
    versions: tuple[int, ...]


def _register_act(registry: Registry) -> None:
    staged = registry.workspace.cycles / "c2" / "version"
    registry.register(staged, cycle_id="c2", parent=1, facts=facts())


def _rollback_act(registry: Registry) -> None:
    # Asking again after a rollback that was finished would go one further back.
    if registry.champion() != 1:
        rollback(registry, to=1, actor="ada", reason="worse")


def _two(registry: Registry) -> None:
    promoted(registry, "c1")
    register(registry, "c2", parent=1)


def _broken_promotion(registry: Registry) -> None:
    """A promotion killed before its commit, with a half-copied folder left behind."""
    _two(registry)
    registry.journal.append(
        "intent",
        kind="promote",
        epoch=2,
        version=2,
        previous=1,
        actor="ada",
        reason="",
        force=False,
        below=3,
    )
    half = registry.serving.staging("2")
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half")


def _committed_promotion(registry: Registry) -> None:
    """A promotion killed after its commit, before the derived pointers and the journal."""
    _two(registry)
    promote(registry, 2, actor="ada", reason="")
    journal = registry.journal.path
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    (registry.serving.root / "current").unlink()
    os.symlink("1", registry.serving.root / "current")


def _forced_deletion(registry: Registry) -> None:
    """Deletions that were killed after the journal said so."""
    promoted(registry, "c1", "c2", "c3", "c4")
    registry.journal.append("delete", version=1, actor="ada", reason="old")


def _damaged_copy(registry: Registry) -> None:
    """The copy to go back to was tampered with; it has to be made again."""
    promoted(registry, "c1", "c2")
    path = registry.serving.root / "1" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(b"tampered")


def _copy_gone(registry: Registry) -> None:
    promoted(registry, "c1", "c2")
    registry.serving.remove("1")


def _staged(registry: Registry) -> None:
    promoted(registry, "c1")
    stage(registry.workspace.root, "c2")


def _five(registry: Registry) -> None:
    promoted(registry, "c1", "c2", "c3", "c4", "c5")


def _promote(number: int) -> Callable[[Registry], None]:
    def act(registry: Registry) -> None:
        promote(registry, number, actor="ada", reason="better")

    return act


def _retain(registry: Registry) -> None:
    apply_retention(registry, actor="ada")


def _recover(registry: Registry) -> None:
    recover(registry)


def _alias(registry: Registry) -> None:
    set_alias(registry, "audited", 1, actor="ada", reason="asked for")


SCENARIOS = (
    Scenario("register", _staged, _register_act, (1,), 1, (1, 2)),
    Scenario("first promotion", lambda r: register(r, "c1"), _promote(1), (None, 1), 1, (1,)),
    Scenario("promotion", _two, _promote(2), (1, 2), 2, (1, 2)),
    Scenario("rollback", lambda r: promoted(r, "c1", "c2"), _rollback_act, (2, 1), 1, (1, 2)),
    Scenario("rollback to a copied version", _copy_gone, _rollback_act, (2, 1), 1, (1, 2)),
    Scenario("rollback to a damaged copy", _damaged_copy, _rollback_act, (2, 1), 1, (1, 2)),
    Scenario("retention", _five, _retain, (5,), 5, (4, 5)),
    Scenario("alias", lambda r: promoted(r, "c1", "c2"), _alias, (2,), 2, (1, 2)),
    Scenario("recovery of a deletion", _forced_deletion, _recover, (4,), 4, (2, 3, 4)),
    Scenario("recovery backwards", _broken_promotion, _recover, (1,), 1, (1, 2)),
    Scenario("recovery forwards", _committed_promotion, _recover, (2,), 2, (1, 2)),
)


def plan(scenario: Scenario, base: Path) -> int:
    """Make the workspace before, and count the operations of the deed on a copy of it."""
    scenario.prepare(make_registry(base, keep=2))
    files = FaultyFiles()
    copy = base.with_name("dry")
    shutil.copytree(base, copy, symlinks=True)
    scenario.act(make_registry(copy, files=files, keep=2))
    FileOperations().remove_tree(copy)
    return files.count


def hurt(scenario: Scenario, base: Path, at: int, fault: str) -> list[str]:
    """Let one fault happen to a copy of the workspace; say what is wrong afterwards."""
    root = base.with_name("victim")
    FileOperations().remove_tree(root)
    shutil.copytree(base, root, symlinks=True)
    child = os.fork()
    if child == 0:
        try:
            scenario.act(make_registry(root, files=FaultyFiles(at, fault), keep=2))
        except ContlearnError as error:
            os._exit(20 if error.hint else 21)
        except BaseException:
            os._exit(22)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    problems = []
    if fault in KILLS and not os.WIFSIGNALED(status):
        problems.append(f"the victim was not killed: {status}")
    if fault not in KILLS and os.waitstatus_to_exitcode(status) not in (0, 20):
        problems.append(
            f"the error was not told with what to do: {os.waitstatus_to_exitcode(status)}"
        )
    registry = make_registry(root, keep=2)
    problems += [f"right after: {p}" for p in verify_serving(registry)]
    if registry.champion() not in scenario.champions:
        problems.append(f"right after: champion {registry.champion()}")
    recover(registry)
    problems += [f"after recovery: {p}" for p in verify_serving(registry)]
    scenario.act(registry)
    problems += [
        f"at the end: {p}" for p in [*verify_serving(registry), *registry.journal.verify()]
    ]
    problems += [f"recovered twice: {p}" for p in recover(registry)]
    if registry.champion() != scenario.champion:
        problems.append(f"at the end: champion {registry.champion()}")
    if registry.numbers() != scenario.versions:
        problems.append(f"at the end: versions {registry.numbers()}")
    for number in registry.numbers():
        problems += [f"version {number}: {p}" for p in registry.verify(number)]
    problems += list(_disagreement(registry))
    return problems


def _disagreement(registry: Registry) -> Iterator[str]:
    root, champion = registry.serving.root, registry.champion()
    if champion is not None:
        if os.readlink(root / "current") != str(champion):
            yield f"current points to {os.readlink(root / 'current')}"
        if f"versions: [ {champion} ]" not in (root / "config.pbtxt").read_text():
            yield "config.pbtxt names another version"
    for folder in (root, registry.workspace.versions):
        for entry in os.scandir(folder) if folder.exists() else ():
            if entry.name.startswith((".staged", ".trash")) or entry.name.endswith(".tmp"):
                yield f"left behind: {entry.name}"
    records = list(registry.journal.records())
    epochs = [r.epoch for r in records if r.event in ("promote", "rollback")]
    if epochs != sorted(set(epochs)):
        yield f"epochs {epochs} do not rise"
    numbers = [r.version for r in records if r.event == "register"]
    if numbers != sorted(set(numbers)):
        yield f"numbers {numbers} do not rise"


def run(stride: int = 1, offset: int = 0) -> Iterator[dict]:
    """Go through every scenario, operation and kind of fault; with a stride, through every n-th.

    Offsets from 0 to the stride make slices that are everything together.
    """
    position = 0
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            base = Path(folder) / "base"
            operations = plan(scenario, base)
            for at in range(operations):
                for fault in (*ERRORS, *KILLS):
                    position += 1
                    if position % stride == offset:
                        problems = hurt(scenario, base, at, fault)
                        yield {
                            "scenario": scenario.name,
                            "at": at,
                            "fault": fault,
                            "problems": problems,
                        }
            FileOperations().remove_tree(base)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    for result in run(options.stride, options.offset):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
