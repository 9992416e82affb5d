from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest

from contlearn.errors import RegistryError, StorageError, WorkspaceLocked
from contlearn.registry.journal import Journal
from contlearn.registry.origin import origin_of
from contlearn.registry.promotion import promote, recover, rollback
from contlearn.registry.serving_copy import verify_serving
from tests.unit.registry.staged import make_registry, promoted, register, serving_state


@pytest.fixture
def registry(tmp_path):
    return make_registry(tmp_path / "ws")


def _events(registry):
    return [(r.event, r.version) for r in registry.journal.records()]


def test_promote_writes_copy_pointer_link_config_and_journal(registry):
    version = register(registry, "c1")
    assert promote(registry, 1, actor="ada", reason="first").version == 1
    root = registry.serving.root
    assert sorted(p.name for p in root.iterdir()) == [
        "1",
        "config.pbtxt",
        "current",
        "current.json",
    ]
    assert sorted(p.name for p in (root / "1").iterdir()) == [
        "manifest.json",
        "model.onnx",
        "tokenizer.json",
    ]
    pointer = json.loads((root / "current.json").read_bytes())
    assert (pointer["version"], pointer["epoch"]) == (1, 1)
    assert os.readlink(root / "current") == "1"
    assert (root / "current" / "model.onnx").read_bytes() == (
        version.path / "onnx" / "model.onnx"
    ).read_bytes()
    assert not (root / "1" / "model.onnx").is_symlink()
    assert verify_serving(registry) == []
    assert _events(registry) == [("register", 1), ("intent", 1), ("promote", 1)]
    record = list(registry.journal.records())[-1]
    assert (record.actor, record.reason, record.previous, record.epoch) == (
        "ada",
        "first",
        None,
        1,
    )


def test_promote_writes_triton_config_for_exactly_one_version(registry):
    promoted(registry, "c1")
    text = (registry.serving.root / "config.pbtxt").read_text()
    assert 'name: "test"' in text
    assert "version_policy { specific { versions: [ 1 ] } }" in text
    assert '{ name: "logits", data_type: TYPE_FP32, dims: [ 2 ] }' in text
    assert text.count("TYPE_INT64, dims: [ -1 ]") == 2


def test_promote_again_changes_nothing(registry):
    promoted(registry, "c1")
    before = serving_state(registry), _events(registry)
    promote(registry, 1, actor="ada", reason="again")
    assert (serving_state(registry), _events(registry)) == before


def test_promote_dry_run_checks_and_changes_nothing(registry):
    register(registry, "c1")
    assert promote(registry, 1, actor="ada", reason="", dry_run=True).version == 1
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="no version 2"):
        promote(registry, 2, actor="ada", reason="", dry_run=True)


@pytest.mark.parametrize("judged", [False, None])
def test_promote_refused_version_needs_force(registry, judged):
    register(registry, "c1", promoted=judged)
    why = "never judged" if judged is None else "no better than guesses"
    with pytest.raises(RegistryError, match=f"Version 1 was refused: .*{why}.*--force"):
        promote(registry, 1, actor="ada", reason="")
    promote(registry, 1, actor="ada", reason="I know", force=True)
    assert registry.champion() == 1
    assert list(registry.journal.records())[-1].force is True


def test_promote_of_what_was_not_worth_the_change_needs_no_force(registry):
    register(registry, "c1", promoted=False, keeps=True)
    promote(registry, 1, actor="ada", reason="it is to me")
    assert registry.champion() == 1
    assert not list(registry.journal.records())[-1].force


def test_promote_leaves_the_champion_when_the_copy_cannot_be_served(tmp_path):
    registry = make_registry(tmp_path / "ws")
    promoted(registry, "c1")
    registry.preflight = lambda folder: ["golden text 1 differs"]
    register(registry, "c2")
    with pytest.raises(RegistryError, match="Version 2 cannot be served: golden text 1 differs"):
        promote(registry, 2, actor="ada", reason="")
    assert registry.champion() == 1
    assert _events(registry)[-2:] == [("intent", 2), ("abandon", 2)]
    assert recover(registry) == []


def test_who_changed_the_champion_is_written_and_not_read_out_of_words(registry):
    promoted(registry, "c1", "c2", "c3")
    words = "cycle 20300101-000000-00001"
    promote(registry, 1, actor="daemon", reason=words)
    promote(registry, 2, actor="ada", reason=words, origin="cycle")
    rollback(registry, actor="daemon", reason=words)
    rollback(registry, actor="daemon (probation)", reason="worse", origin="daemon")
    changes = list(registry.journal.back("promote", "rollback"))[:4]
    assert [origin_of(change) for change in changes] == ["daemon", "hand", "cycle", "hand"]


def test_a_change_that_is_finished_after_a_kill_keeps_who_wanted_it(registry, monkeypatch):
    promoted(registry, "c1")
    register(registry, "c2", parent=1)
    append = Journal.append

    def die_at_the_commit(journal, event, **fields):
        if event == "promote":
            raise KeyboardInterrupt
        return append(journal, event, **fields)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", die_at_the_commit)
        with pytest.raises(KeyboardInterrupt):
            promote(registry, 2, actor="ada", reason="cycle c2", origin="cycle")
    assert recover(registry) == ["the promotion of version 2 was finished"]
    assert (registry.last_change().version, origin_of(registry.last_change())) == (2, "cycle")


def test_promote_replaces_a_damaged_copy(registry):
    promoted(registry, "c1", "c2")
    path = registry.serving.root / "1" / "model.onnx"
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(b"tampered")
    promote(registry, 1, actor="ada", reason="back")
    assert verify_serving(registry) == []


def test_rollback_goes_one_promotion_further_back_each_time(registry):
    promoted(registry, "c1", "c2", "c3", "c4")
    assert [rollback(registry, actor="ada", reason="").version for _ in range(3)] == [3, 2, 1]
    with pytest.raises(RegistryError, match="no former champion"):
        rollback(registry, actor="ada", reason="")
    promoted(registry, "c5")
    assert registry.champion() == 5
    assert rollback(registry, actor="ada", reason="").version == 1
    assert verify_serving(registry) == []


def test_rollback_goes_back_along_versions_promoted_more_than_once(registry):
    promoted(registry, "c1", "c2")
    promote(registry, 1, actor="ada", reason="by hand")
    promoted(registry, "c3")
    assert registry.former_champions() == (1, 2, 1, 3)
    assert [rollback(registry, actor="ada", reason="").version for _ in range(3)] == [1, 2, 1]
    with pytest.raises(RegistryError, match="no former champion"):
        rollback(registry, actor="ada", reason="")


def test_rollback_to_a_version_rolled_back_over_is_a_step_forward(registry):
    promoted(registry, "c1", "c2", "c3")
    rollback(registry, to=1, actor="ada", reason="")
    assert registry.former_champions() == (1,)
    rollback(registry, to=3, actor="ada", reason="it was well after all")
    assert registry.former_champions() == (1, 3)
    assert rollback(registry, actor="ada", reason="").version == 1


def test_rollback_keeps_epochs_rising(registry):
    promoted(registry, "c1", "c2")
    rollback(registry, actor="ada", reason="")
    assert serving_state(registry)["pointer"] == (1, 3)


def test_rollback_to_names_only_what_was_served(registry):
    promoted(registry, "c1", "c2")
    register(registry, "c3")
    with pytest.raises(RegistryError, match="Version 3 was never served"):
        rollback(registry, to=3, actor="ada", reason="")
    with pytest.raises(RegistryError, match="Version 2 is the champion already"):
        rollback(registry, to=2, actor="ada", reason="")
    assert rollback(registry, to=1, actor="ada", reason="").version == 1


def test_rollback_needs_no_force_for_a_version_once_forced(registry):
    register(registry, "c1", promoted=False)
    promote(registry, 1, actor="ada", reason="", force=True)
    promoted(registry, "c2")
    assert rollback(registry, actor="ada", reason="").version == 1


def test_rollback_dry_run_says_where_it_would_go(registry):
    promoted(registry, "c1", "c2")
    assert rollback(registry, actor="ada", reason="", dry_run=True).version == 1
    assert registry.champion() == 2


def test_rollback_after_a_promotion_whose_journal_record_was_lost(registry):
    promoted(registry, "c1", "c2", "c3")
    journal = registry.journal.path
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert rollback(registry, actor="ada", reason="").version == 2


@pytest.mark.parametrize("damage", ["lost", "torn", "other"])
def test_recover_writes_the_pointer_again_from_the_journal(registry, damage):
    promoted(registry, "c1", "c2")
    pointer = registry.serving.root / "current.json"
    if damage == "lost":
        pointer.unlink()
    else:
        pointer.write_bytes(b'{"version"' if damage == "torn" else b'{"version": "two"}')
        with pytest.raises(StorageError):
            registry.champion()
    assert recover(registry) == ["current.json was written again from the journal"]
    assert registry.champion() == 2
    assert verify_serving(registry) == []
    assert recover(registry) == []


def test_recover_derives_link_and_config_again(registry):
    promoted(registry, "c1")
    (registry.serving.root / "config.pbtxt").unlink()
    (registry.serving.root / "current").unlink()
    assert recover(registry) == ["current and config.pbtxt point to version 1 again"]
    assert serving_state(registry)["link"] == "1"


def test_lost_pointer_keeps_the_moment_of_the_promotion_not_of_its_mending(registry, monkeypatch):
    promoted(registry, "c1")
    register(registry, "c2", parent=1)

    class Killed(BaseException):
        pass

    def kill(root, manifest, *, files):
        # Mending derives too, before the promotion begins.
        if manifest.version == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("contlearn.registry.promotion.derive_pointers", kill)
        with pytest.raises(Killed):
            promote(registry, 2, actor="ada", reason="")
    moment = registry.serving.read_pointer().at
    registry.clock.sleep(3600)
    assert recover(registry) == ["the promotion of version 2 was finished"]
    (registry.serving.root / "current.json").unlink()
    recover(registry)
    assert registry.serving.read_pointer().at == moment


def test_recover_makes_a_missing_or_truncated_copy_again(registry):
    promoted(registry, "c1")
    folder = registry.serving.root / "1"
    folder.chmod(0o755)
    (folder / "model.onnx").unlink()
    assert recover(registry)[0].startswith(
        "the served copy of version 1 was made again: model.onnx is missing"
    )
    assert verify_serving(registry) == []


def test_recover_leaves_a_way_on_when_pointer_and_version_are_both_lost(registry):
    promoted(registry, "c1", "c2")
    (registry.serving.root / "current.json").unlink()
    for path in (registry.serving.root / "2", registry.workspace.versions / "2"):
        registry.files.remove_tree(path)
    assert "version 2 cannot be served again" in recover(registry)[0]
    promote(registry, 1, actor="ada", reason="what is left")
    assert registry.champion() == 1
    assert serving_state(registry)["pointer"] == (1, 3)


def test_verify_serving_names_a_tampered_file(registry):
    promoted(registry, "c1")
    path = registry.serving.root / "1" / "model.onnx"
    path.parent.chmod(0o755)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert verify_serving(registry) == [
        "model.onnx was changed: its SHA-256 is not the one in the manifest"
    ]


def _promote_slowly(root, version, started, results):
    def slow(folder):
        started.set()
        time.sleep(0.5)
        return []

    registry = make_registry(root, preflight=slow)
    try:
        promote(registry, version, actor=f"promoter {version}", reason="")
        results.put((version, "won"))
    except (WorkspaceLocked, RegistryError) as error:
        results.put((version, type(error).__name__))


def test_two_promoters_at_once_one_wins_and_the_other_is_told(registry):
    promoted(registry, "c1")
    register(registry, "c2")
    register(registry, "c3")
    spawn = multiprocessing.get_context("spawn")
    started, results = spawn.Event(), spawn.Queue()
    first = spawn.Process(
        target=_promote_slowly, args=(registry.workspace.root, 2, started, results)
    )
    first.start()
    assert started.wait(30)
    with pytest.raises(WorkspaceLocked, match="Another process is promoting a version"):
        promote(registry, 3, actor="ada", reason="")
    first.join(30)
    assert results.get(timeout=10) == (2, "won")
    assert registry.champion() == 2
    assert _events(registry).count(("promote", 2)) == 1


def test_promoter_that_looked_before_another_was_faster_is_told(registry):
    """The lock is free again, but the champion is no longer the one that was seen."""
    promoted(registry, "c1")
    register(registry, "c2")
    register(registry, "c3")
    other = make_registry(registry.workspace.root)
    lock = registry.lock

    def late(what, **options):
        promote(other, 2, actor="eve", reason="faster")
        return lock(what, **options)

    registry.lock = late
    with pytest.raises(
        RegistryError, match="Another process made version 2 the champion meanwhile"
    ):
        promote(registry, 3, actor="ada", reason="")
    assert registry.champion() == 2


def test_of_two_rollbacks_decided_at_once_one_goes_back(registry):
    """The second waited for the first, as `contlearn rollback` does: it must not go further back."""
    promoted(registry, "c1", "c2", "c3")
    seen = registry.epoch()
    rollback(registry, actor="ada", reason="worse", seen=seen)
    with pytest.raises(RegistryError, match="Another process made version 2 the champion"):
        rollback(registry, actor="eve", reason="worse", seen=seen)
    with pytest.raises(RegistryError, match="Another process made version 2 the champion"):
        promote(registry, 1, actor="eve", reason="better", seen=seen)
    assert registry.champion() == 2


@pytest.mark.parametrize("damage", ["pointer", "journal"])
def test_epoch_is_known_from_pointer_or_journal(registry, damage):
    promoted(registry, "c1", "c2")
    seen = registry.epoch()
    assert seen == 2
    if damage == "pointer":
        (registry.serving.root / "current.json").write_text("{")
    else:
        lines = registry.journal.path.read_bytes().splitlines(keepends=True)
        registry.journal.path.write_bytes(b"".join(lines[:-1]))
    assert registry.epoch() == seen
    recover(registry)
    assert rollback(registry, actor="ada", reason="worse", seen=seen).version == 1
