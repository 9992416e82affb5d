"""The best proven version: in the manifest, kept from deletion, reset by a person with a reason."""

from __future__ import annotations

import pytest

from contlearn.errors import RegistryError, UsageError
from contlearn.registry.anchors import anchor_of, last_reset, reset_anchor
from contlearn.registry.promotion import promote, rollback
from contlearn.registry.retention import versions_to_delete
from tests.unit.registry.staged import make_registry, register

BY = {"actor": "ada", "reason": "the labels mean something else now"}


@pytest.fixture
def registry(tmp_path):
    """Versions 1 to 6 in a row; 2 is the best proven one of all that followed it."""
    made = make_registry(tmp_path / "ws", keep=1)
    for number in range(1, 7):
        name, best = f"c{number}", {1: None, 2: None}.get(number, 2)
        register(made, name, parent=made.champion(), anchor=best)
        promote(made, number, actor="ada", reason=name)
    return made


def test_best_version_stands_in_the_manifest_and_goes_back_with_a_rollback(registry):
    assert [anchor_of(registry, number) for number in range(1, 7)] == [1, 2, 2, 2, 2, 2]
    assert last_reset(registry) is None


def test_best_version_is_never_deleted(registry):
    assert versions_to_delete(registry) == (1, 3, 4)


def test_reset_makes_the_champion_the_best_and_says_why(registry):
    assert reset_anchor(registry, **BY, dry_run=True) == (6, 2)
    assert anchor_of(registry, 6) == 2
    assert reset_anchor(registry, **BY) == (6, 2)
    assert anchor_of(registry, 6) == 6
    record = last_reset(registry)
    assert (record.version, record.previous, record.actor, record.reason) == (6, 2, *BY.values())
    register(registry, "c7", parent=6, anchor=6)
    assert (anchor_of(registry, 7), anchor_of(registry, 5)) == (6, 2)

    rollback(registry, actor="ada", reason="back")
    assert anchor_of(registry, registry.champion()) == 2, "what was best before the reset"
    assert last_reset(registry).number == record.number
    registry.journal.verify()


def test_reset_without_a_reason_or_a_champion_is_refused(registry, tmp_path):
    with pytest.raises(UsageError, match="needs a reason"):
        reset_anchor(registry, actor="ada", reason=" ")
    with pytest.raises(RegistryError, match="no champion yet"):
        reset_anchor(make_registry(tmp_path / "empty"), **BY)
    assert last_reset(registry) is None
