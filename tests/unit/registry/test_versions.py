from __future__ import annotations

import errno
import os
import stat
from datetime import timedelta

import pytest

from contlearn.errors import RegistryError, WorkspaceLocked
from contlearn.registry.aliases import delete_alias, set_alias
from contlearn.registry.leases import hold_version, leased_versions
from contlearn.registry.past import live_at, promoted_at
from contlearn.registry.promotion import promote, rollback
from contlearn.registry.retention import apply_retention, versions_to_delete
from contlearn.workspace import FileOperations
from tests.unit.registry.staged import facts, make_registry, promoted, register, stage


@pytest.fixture
def registry(tmp_path):
    return make_registry(tmp_path / "ws")


def _unlock(path):
    path.parent.chmod(0o755)
    path.chmod(0o644)
    return path


def test_register_moves_the_folder_and_writes_its_manifest(registry):
    version = register(registry, "c1")
    assert (version.version, version.parent, version.label_space.names) == (1, None, ("no", "yes"))
    assert version.path == registry.workspace.versions / "1"
    assert set(version.manifest.files) == {
        "onnx/model.onnx",
        "onnx/tokenizer.json",
        "checkpoint/head.safetensors",
        "decision.json",
    }
    assert not (registry.workspace.cycles / "c1" / "version").exists()
    assert registry.verify(1) == []
    assert registry.champion() is None


def test_registered_folder_is_read_only(registry):
    folder = register(registry, "c1").path
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes == {0o555, 0o444}


def test_register_gives_the_same_version_for_the_same_cycle(registry):
    first = register(registry, "c1")
    again = registry.register(
        registry.workspace.root / "gone", cycle_id="c1", parent=None, facts=facts()
    )
    assert again.version == first.version
    assert registry.numbers() == (1,)
    assert registry.find_by_cycle("c1").version == 1
    assert registry.find_by_cycle("c") is None


def test_register_refuses_a_link_by_name(registry):
    folder = stage(registry.workspace.root, "c1")
    os.symlink("/etc/hostname", folder / "onnx" / "extra.txt")
    with pytest.raises(RegistryError, match=r"onnx/extra\.txt is a link"):
        registry.register(folder, cycle_id="c1", parent=None, facts=facts())
    assert registry.numbers() == ()


def test_register_refuses_a_challenger_without_a_model(registry):
    folder = stage(registry.workspace.root, "c1")
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(RegistryError, match=r"no onnx/model\.onnx"):
        registry.register(folder, cycle_id="c1", parent=None, facts=facts())


def test_numbers_are_never_used_again(registry):
    promoted(registry, "c1", "c2", "c3")
    registry.config = registry.config.model_copy(
        update={"retention": registry.config.retention.model_copy(update={"versions": 1})}
    )
    assert apply_retention(registry, actor="ada") == (1,)
    assert registry.numbers() == (2, 3)
    assert register(registry, "c4").version == 4
    with pytest.raises(RegistryError, match=r"Version 1 was deleted on 2030-01-01: older than"):
        registry.get(1)


def test_get_names_the_versions_that_are_there(registry):
    register(registry, "c1")
    with pytest.raises(RegistryError, match=r"no version 7.*Versions there are: 1\."):
        registry.get(7)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [  # one damage a line
        (lambda f: _unlock(f / "onnx" / "model.onnx").write_bytes(b"x" * 2400), "onnx/model.onnx was changed"),
        (lambda f: os.truncate(_unlock(f / "onnx" / "model.onnx"), 7), "onnx/model.onnx is truncated: 7 bytes"),
        (lambda f: _unlock(f / "onnx" / "model.onnx").unlink(), "onnx/model.onnx is missing"),
        (lambda f: _unlock(f / "decision.json").write_text('{"promoted": true}'), "decision.json"),
        (lambda f: (_unlock(f / "onnx" / "model.onnx"), (f / "onnx" / "new.py").write_text("")), "onnx/new.py was added"),
        (lambda f: _unlock(f / "manifest.json").write_text(
            (f / "manifest.json").read_text().replace("tiny", "huge")), "manifest.json was changed: the journal"),
        (lambda f: _unlock(f / "manifest.json").write_text("{"), "manifest.json"),
    ],
)  # fmt: skip
def test_verify_names_what_is_damaged_and_promote_refuses_it(registry, damage, problem):
    folder = register(registry, "c1").path
    damage(folder)
    assert any(problem in found for found in registry.verify(1))
    with pytest.raises(RegistryError, match="damaged"):
        promote(registry, 1, actor="ada", reason="", force=True)
    assert registry.champion() is None


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_verify_refuses_a_linked_file_with_the_right_content(registry, tmp_path, kind):
    path = _unlock(register(registry, "c1").path / "onnx" / "model.onnx")
    path.rename(tmp_path / "elsewhere")
    (os.symlink if kind == "soft" else os.link)(tmp_path / "elsewhere", path)
    assert (
        registry.verify(1)[0]
        == f"onnx/model.onnx is {'a link' if kind == 'soft' else 'hard-linked 2 times'}"
    )


def test_adopt_sets_a_damaged_folder_without_record_aside(registry):
    register(registry, "c1")
    broken = registry.workspace.versions / "2"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    with registry.lock("testing"):
        (action,) = registry.adopt()
    assert action.startswith("version 2 was set aside")
    assert registry.numbers() == (1,)


def test_register_enters_every_folder_that_the_journal_lost(registry):
    for name in ("c1", "c2", "c3", "c4"):
        register(registry, name)
    FileOperations().remove_tree(registry.workspace.versions / "3")
    lines = registry.journal.path.read_bytes().splitlines(keepends=True)
    registry.journal.path.write_bytes(lines[0])
    assert register(registry, "c5").version == 5
    assert [r.version for r in registry.journal.back("register")] == [5, 4, 2, 1]


def test_a_version_left_by_a_kill_is_entered_without_listing_the_others(registry):
    for name in ("c1", "c2"):
        register(registry, name)
    lines = registry.journal.path.read_bytes().splitlines(keepends=True)
    registry.journal.path.write_bytes(lines[0])
    assert registry.latest() == 2
    with registry.lock("testing"):
        assert registry.adopt() == ["version 2 was entered in the journal"]


def test_names_that_only_look_like_numbers_are_no_versions(registry):
    register(registry, "c1")
    for name in ("²", "٣", "007", "1a", ".2", "-4"):
        (registry.workspace.versions / name).mkdir()
    assert registry.numbers() == (1,)


def test_retention_cleans_up_after_writers_that_were_killed(registry):
    promoted(registry, "c1")
    left = [registry.workspace.versions / name for name in (".staged-2-ab", ".trash-1-cd")]
    for folder in left:
        folder.mkdir()
    assert apply_retention(registry, actor="ada") == ()
    assert not any(folder.exists() for folder in left)


def test_latest_is_the_newest_version_that_is_there(registry):
    assert registry.latest() is None
    for name in ("c1", "c2", "c3"):
        register(registry, name)
    assert registry.latest() == 3
    FileOperations().remove_tree(registry.workspace.versions / "3")
    assert registry.latest() == 2


def test_a_cycle_is_searched_for_up_to_its_parent_only(registry):
    for number in range(1, 6):
        register(registry, f"c{number}")
    assert registry.find_by_cycle("c5", parent=3).version == 5
    assert registry.find_by_cycle("c2", parent=3) is None
    assert registry.find_by_cycle("c2").version == 2


def test_history_says_what_was_live_when(registry):
    start = registry.clock.now()
    promoted(registry, "c1")
    registry.clock.sleep(3600)
    promoted(registry, "c2")
    registry.clock.sleep(3600)
    rollback(registry, actor="ada", reason="worse")
    moments = [start - timedelta(seconds=1), *(start + timedelta(minutes=m) for m in (30, 90, 150))]
    assert [live_at(registry, moment)["version"] for moment in moments] == [None, 1, 2, 1]
    assert promoted_at(registry, 1) == (start + timedelta(hours=2)).isoformat()
    assert promoted_at(registry, 2) == (start + timedelta(hours=1)).isoformat()


def test_note_writes_other_events_only(registry):
    registry.note("hold", actor="ada", reason="looking", records=12)
    assert list(registry.journal.records())[-1].source["records"] == 12
    with pytest.raises(RegistryError, match="not an event"):
        registry.note("promote", version=1)


def test_retention_keeps_what_is_served_needed_held_or_named(registry):
    promoted(registry, *[f"c{n}" for n in range(1, 9)])
    rollback(registry, to=3, actor="ada", reason="worse")
    registry.config = registry.config.model_copy(
        update={"retention": registry.config.retention.model_copy(update={"versions": 1})}
    )
    set_alias(registry, "audit", 5, actor="ada", reason="looked at")
    with hold_version(registry.workspace.state / "leases", 6):
        assert apply_retention(registry, actor="ada", protected=[7], dry_run=True) == (1, 4)
        assert registry.numbers() == tuple(range(1, 9))
        assert apply_retention(registry, actor="ada", protected=[7]) == (1, 4)
    # 3 is the champion, 2 the one before it and its parent, 8 the newest.
    assert registry.numbers() == (2, 3, 5, 6, 7, 8)
    assert [path.name for path in registry.serving.root.iterdir() if path.name.isdigit()]
    assert set(registry.serving.names()) == {"2", "3", "6", "7"}
    delete_alias(registry, "audit", actor="ada", reason="seen")
    assert versions_to_delete(registry) == (5, 6, 7)


def test_leases_of_dead_processes_do_not_count(tmp_path):
    with hold_version(tmp_path, 4):
        assert leased_versions(tmp_path) == {4}
    assert leased_versions(tmp_path) == set()
    (tmp_path / "version-9-1-abc.lock").write_bytes(b"")
    assert leased_versions(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []


def test_second_writer_is_told(registry):
    with (
        registry.lock("registering a version"),
        pytest.raises(WorkspaceLocked, match="Another process is"),
        registry.lock("registering a version", wait_seconds=0.0),
    ):
        pass


def test_listing_reads_names_only(registry, tmp_path):
    for number in (1, 2, 10, 9999):
        (registry.workspace.versions / str(number)).mkdir()
    (registry.workspace.versions / "007").mkdir()
    (registry.workspace.versions / ".staged-3-x").mkdir()
    assert registry.numbers() == (1, 2, 10, 9999)


def test_registry_loads_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys, contlearn.registry.promotion, contlearn.registry.retention\n"
        "print([m for m in ('numpy', 'onnxruntime', 'pyarrow', 'torch', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_register_copies_from_another_mount_though_it_is_the_same_device(tmp_path):
    class OtherMount(FileOperations):
        def rename(self, source, target):
            if source.parent != target.parent:
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
            super().rename(source, target)

    registry = make_registry(tmp_path / "ws", files=OtherMount())
    version = register(registry, "c1")
    assert registry.verify(1) == []
    assert sorted(p.name for p in version.path.rglob("*") if p.is_file()) == [
        "decision.json", "head.safetensors", "manifest.json", "model.onnx", "tokenizer.json",
    ]  # fmt: skip
    assert not list(registry.store.root.glob(".staged-*"))
