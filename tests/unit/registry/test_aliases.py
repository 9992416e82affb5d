from __future__ import annotations

from datetime import timedelta

import pytest

from contlearn.errors import RegistryError, UsageError
from contlearn.registry.aliases import aliases, delete_alias, resolve_version, set_alias
from contlearn.registry.past import live_at
from contlearn.registry.promotion import rollback
from contlearn.registry.retention import versions_to_delete
from tests.unit.registry.staged import make_registry, promoted, register

BY = {"actor": "ada", "reason": "why not"}


@pytest.fixture
def registry(tmp_path):
    made = make_registry(tmp_path / "ws", keep=1)
    promoted(made, "c1", "c2", "c3")
    register(made, "c4", parent=3)
    return made


@pytest.mark.parametrize(
    ("name", "number"),
    [(2, 2), ("2", 2), ("v2", 2), ("champion", 3), ("previous", 2), ("latest", 4), ("blue", 1)],
)
def test_versions_are_named_by_number_or_alias(registry, name, number):
    set_alias(registry, "blue", 1, **BY)
    assert resolve_version(registry, name) == number


def test_built_in_names_follow_a_rollback(registry):
    rollback(registry, **BY)
    assert resolve_version(registry, "champion") == 2
    assert resolve_version(registry, "previous") == 1


@pytest.mark.parametrize("name", ["champion", "previous", "latest"])
def test_built_in_names_stand_for_nothing_before_there_is_something(tmp_path, name):
    empty = make_registry(tmp_path / "empty")
    with pytest.raises(RegistryError, match="There is no|No version"):
        resolve_version(empty, name)


def test_unknown_name_suggests_the_near_one(registry):
    set_alias(registry, "production", 1, **BY)
    with pytest.raises(RegistryError, match="no alias 'producton'. Did you mean 'production'?"):
        resolve_version(registry, "producton")


def test_alias_moves_and_goes_and_the_journal_knows(registry):
    assert set_alias(registry, "blue", 1, **BY) is None
    assert set_alias(registry, "green", 2, **BY) is None
    assert set_alias(registry, "blue", 3, **BY) == 1
    assert aliases(registry) == {"blue": 3, "green": 2}
    assert delete_alias(registry, "green", **BY) == 2
    assert aliases(registry) == {"blue": 3}
    records = [r for r in registry.journal.records() if r.event == "alias"]
    assert [(r.alias, r.version, r.previous) for r in records] == [
        ("blue", 1, None),
        ("green", 2, None),
        ("blue", 3, 1),
        ("green", 0, 2),
    ]
    assert all((r.actor, r.reason) == ("ada", "why not") for r in records)
    assert registry.journal.verify() == []


def test_setting_what_is_set_and_dry_runs_write_nothing(registry):
    set_alias(registry, "blue", 1, **BY)
    before = list(registry.journal.records())
    set_alias(registry, "blue", 1, **BY)
    set_alias(registry, "blue", 2, dry_run=True, **BY)
    set_alias(registry, "red", 2, dry_run=True, **BY)
    delete_alias(registry, "blue", dry_run=True, **BY)
    assert list(registry.journal.records()) == before


@pytest.mark.parametrize(
    "name", ["champion", "latest", "3", "v3", "Blue", "", "-x", "a b", "a" * 64]
)
def test_names_that_are_not_to_be_had(registry, name):
    with pytest.raises(UsageError, match="cannot be an alias"):
        set_alias(registry, name, 1, **BY)


def test_alias_needs_a_version_that_is_there(registry):
    with pytest.raises(RegistryError, match="no version 9"):
        set_alias(registry, "blue", 9, **BY)
    with pytest.raises(RegistryError, match="no alias 'blue'"):
        delete_alias(registry, "blue", **BY)
    with pytest.raises(UsageError, match="cannot be deleted"):
        delete_alias(registry, "champion", **BY)


def test_aliases_are_bounded(registry):
    for number in range(100):
        set_alias(registry, f"name-{number}", 1, **BY)
    with pytest.raises(RegistryError, match="100 aliases already"):
        set_alias(registry, "one-more", 1, **BY)
    set_alias(registry, "name-7", 2, **BY)
    assert len(aliases(registry)) == 100


def test_version_with_an_alias_is_not_deleted(registry):
    assert versions_to_delete(registry) == (1,)
    set_alias(registry, "audit", 1, **BY)
    assert versions_to_delete(registry) == ()
    delete_alias(registry, "audit", **BY)
    assert versions_to_delete(registry) == (1,)


def test_past_says_who_promoted_what_why_until_when_and_the_aliases_then(registry):
    start = registry.clock.now()
    registry.clock.sleep(60)
    set_alias(registry, "blue", 1, **BY)
    registry.clock.sleep(60)
    rollback(registry, actor="bob", reason="worse")
    set_alias(registry, "blue", 2, **BY)
    then = live_at(registry, start + timedelta(seconds=90))
    assert (then["version"], then["event"], then["actor"]) == (3, "promote", "ada")
    assert (then["since"], then["until"]) == (
        start.isoformat(),
        (start + timedelta(seconds=120)).isoformat(),
    )
    assert then["aliases"] == {"blue": 1}
    now = live_at(registry, registry.clock.now())
    assert (now["version"], now["event"], now["actor"], now["until"]) == (
        2,
        "rollback",
        "bob",
        None,
    )
    assert now["aliases"] == {"blue": 2}
    before = live_at(registry, start - timedelta(seconds=1))
    assert (before["version"], before["since"], before["aliases"]) == (None, None, {})
