"""What people do to a registry by hand: links in place of folders, lost pointers, missing rights."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from contlearn.errors import RegistryError, StorageError
from contlearn.registry.journal import Journal
from contlearn.registry.past import live_at
from contlearn.registry.promotion import promote, recover, rollback
from contlearn.registry.serving_copy import verify_serving
from contlearn.workspace import FileOperations
from tests.unit.registry.staged import make_registry, promoted, register

ROOT = Path(__file__).parents[3]


@pytest.fixture
def registry(tmp_path):
    return make_registry(tmp_path / "ws")


def _linked(path: Path, elsewhere: Path) -> None:
    path.chmod(0o755)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def test_version_that_is_a_link_is_named_and_the_others_are_checked_all_the_same(
    registry, tmp_path
):
    for name in ("c1", "c2", "c3"):
        register(registry, name)
    _linked(registry.workspace.versions / "2", tmp_path / "elsewhere")
    assert [registry.verify(n) for n in registry.numbers()] == [
        [], ["it is a link or a file, not a folder of its own"], [],
    ]  # fmt: skip
    registry.require(2)
    with pytest.raises(RegistryError, match="Version 2: it is a link or a file, not a folder"):
        promote(registry, 2, actor="ada", reason="")
    with pytest.raises(RegistryError, match=r"no version 9\. .*Versions there are: 1, 2, 3\."):
        registry.require(9)


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_no_version_beyond_the_newest_is_set_aside(registry, tmp_path, kind):
    register(registry, "c1")
    place = registry.workspace.versions / "7"
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        place.write_text("7")
    else:
        place.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    assert register(registry, "c2").version == 2
    assert registry.numbers() == (1, 2)
    assert [p.name for p in registry.workspace.versions.glob(".damaged-7-*")]


def test_served_copy_that_is_a_link_is_refused_and_made_again(registry, tmp_path):
    promoted(registry, "c1", "c2")
    _linked(registry.serving.root / "2", tmp_path / "elsewhere")
    assert verify_serving(registry) == ["2 is a link, not a folder of its own"]
    assert recover(registry)[0] == "the served copy of version 2 was made again: it is a link"
    assert verify_serving(registry) == []
    _linked(registry.serving.root / "1", tmp_path / "another")
    shutil.rmtree(tmp_path / "another", ignore_errors=True)
    rollback(registry, actor="ada", reason="worse")
    assert (registry.champion(), verify_serving(registry)) == (1, [])


def test_serving_directory_that_moved_is_named_and_filled_again(registry):
    promoted(registry, "c1", "c2")
    FileOperations().remove_tree(registry.serving.root)
    (problem,) = verify_serving(registry)
    assert problem.startswith("current.json is missing from ")
    assert "version 2 was promoted" in problem
    assert recover(registry)
    assert (registry.champion(), verify_serving(registry)) == (2, [])


def test_registry_is_whole_where_it_was_copied_to(registry, tmp_path):
    """As rsync or tar copy it to another machine: other modes, other paths, no hard links."""
    promoted(registry, "c1", "c2", "c3")
    new = tmp_path / "elsewhere" / "copied"
    shutil.copytree(registry.workspace.root, new, symlinks=True, copy_function=shutil.copyfile)
    for path in new.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    copied = make_registry(new)
    assert [copied.verify(n) for n in copied.numbers()] == [[], [], []]
    assert verify_serving(copied) == []
    assert copied.journal.verify() == []
    assert rollback(copied, actor="ada", reason="worse").version == 2
    assert register(copied, "c4").version == 4
    assert registry.champion() == 3


class NoRight(FileOperations):
    """A serving directory that may only be read."""

    def make_folder(self, path):
        if ".staged-" in path.name:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        super().make_folder(path)


def test_serving_directory_without_the_right_to_write_keeps_its_champion(registry):
    promoted(registry, "c1")
    register(registry, "c2")
    denied = make_registry(registry.workspace.root, files=NoRight())
    with pytest.raises(StorageError, match="No permission to copy version 2 to the serving"):
        promote(denied, 2, actor="ada", reason="")
    assert (registry.champion(), verify_serving(registry)) == (1, [])
    assert promote(registry, 2, actor="ada", reason="").version == 2


def test_files_that_cannot_be_read_are_named_with_what_to_do(registry, tmp_path):
    promoted(registry, "c1")
    # A folder in place of the file fails for root too, whom modes do not stop.
    pointer = registry.serving.root / "current.json"
    kept = pointer.read_bytes()
    pointer.unlink()
    pointer.mkdir()
    with pytest.raises(StorageError, match=r"current\.json cannot be read: Is a directory"):
        registry.champion()
    pointer.rmdir()
    pointer.write_bytes(kept)
    assert registry.champion() == 1


ASK = """
import sys
from pathlib import Path
from contlearn.errors import StorageError
from contlearn.workspace import file_lock
from tests.unit.registry.staged import make_registry
registry = make_registry(Path(sys.argv[1]))
for deed in (registry.last_change, lambda: registry.lock("testing").__enter__()):
    try:
        deed()
    except StorageError as error:
        print(error.what)
"""


def test_journal_and_lock_without_rights_are_named(registry):
    promoted(registry, "c1")
    registry.journal.path.chmod(0)
    (registry.workspace.versions / ".lock").chmod(0)
    command = [sys.executable, "-c", ASK, str(registry.workspace.root)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip(
                "nothing is forbidden to root (setpriv is in the Debian package util-linux)"
            )
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == [
        "No permission to read the journal: Permission denied.",
        "No permission to take the lock: Permission denied.",
    ]


def test_moments_around_changes_and_with_clocks_that_jumped_back(registry):
    start = registry.clock.now()
    promoted(registry, "c1")
    registry.clock.sleep(60)
    promoted(registry, "c2")
    second = registry.clock.now()
    assert live_at(registry, start)["version"] == 1
    assert live_at(registry, second - timedelta(microseconds=1))["version"] == 1
    assert live_at(registry, second)["version"] == 2
    assert live_at(registry, start - timedelta(days=9999))["version"] is None
    registry.clock.jump(-3600)
    rollback(registry, actor="ada", reason="worse")
    found = live_at(registry, second)
    assert (found["version"], found["until"]) == (1, None)


def test_journal_of_nothing_says_nothing(tmp_path):
    empty = tmp_path / "events.jsonl"
    empty.write_bytes(b"")
    journal = Journal(empty, files=FileOperations(), clock=make_registry(tmp_path / "ws").clock)
    assert (list(journal.back()), journal.get(1), journal.count("promote")) == ([], None, 0)
