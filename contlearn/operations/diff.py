"""What changed from one version to another: measures, labels, configuration, answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contlearn.catalog.records import count_learnable, counting_ids
from contlearn.context import Context
from contlearn.errors import PluginError, StorageError, UsageError
from contlearn.evaluation.flips import flip_of
from contlearn.operations.chosen import chosen_version
from contlearn.papers.decision import read_decision
from contlearn.papers.report import SetReport, measured_by, read_report
from contlearn.papers.scores import SCORES, Scores, read_scores
from contlearn.redaction import redact_config
from contlearn.registry.versions import ModelVersion
from contlearn.targets import target_to_json
from contlearn.types import Target

__all__ = ["compare_versions"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A held-out row, what is right, and what both versions answered."""

    record_id: str
    experience: str
    target: Target
    first: Target
    second: Target

    @property
    def kind(self) -> str:
        """Say how the second version's answer relates to the first one's."""
        return flip_of(self.target, self.first, self.second)


def compare_versions(
    context: Context, first: int | str, second: int | str, *, examples: int = 10
) -> dict[str, Any]:
    """Compare two versions by what was written when they were made.

    Nothing is predicted anew: answers are compared on the held-out rows that both versions were
    judged on, as far as these count. A flip is a row whose answer differs: `fixed` (wrong before,
    right now), `broken` (right before, wrong now) or `changed` (wrong both times).

    Args:
        context: The opened workspace.
        first: Number or alias; the state before.
        second: Number or alias; the state after.
        examples: At most so many flips of each kind come with their texts.
    Raises:
        RegistryError: When a version is not there.
        StorageError: When the answers of one are damaged.
        UsageError: When both are the same version.
    """
    a, b = chosen_version(context, first), chosen_version(context, second)
    if a.version == b.version:
        raise UsageError(
            f"Both are version {a.version}.",
            where="diff",
            hint="Name two versions; `contlearn history` shows which there are.",
        )
    rows = _that_count(context, list(_common_rows(a, b)))
    learnt = _learnt(context, a, b)
    return {
        "a": _summary(a),
        "b": _summary(b),
        "relation": _relation(context, a, b, learnt),
        "learnt": learnt,
        "metrics": _metrics(a, b),
        **measured_by(context.task.metrics, context.task.primary_metric),
        "sets": _sets(a, b),
        "labels": _labels(a, b),
        "configuration": _changes(
            redact_config(a.manifest.lineage.config),
            redact_config(b.manifest.lineage.config),
        ),
        "lineage": _changes(_lineage(a), _lineage(b)),
        "flips": _flips(context, rows, examples),
    }


def _summary(version: ModelVersion) -> dict[str, Any]:
    facts = version.manifest
    return {
        "version": version.version,
        "parent": version.parent,
        "created_at": version.created_at.isoformat(timespec="seconds"),
        "precision": facts.model.precision,
        "size_bytes": facts.export.size_bytes,
    }


def _learnt(context: Context, a: ModelVersion, b: ModelVersion) -> dict[str, dict[str, int]]:
    """Count experiences and records: those that both versions went through, and those of one."""
    mine, theirs = (set(v.manifest.lineage.experiences) for v in (a, b))
    parts = {"both": mine & theirs, "a": mine - theirs, "b": theirs - mine}
    with context.catalog.read() as connection:
        return {
            name: {"experiences": len(cycles), "records": count_learnable(connection, cycles)}
            for name, cycles in parts.items()
        }


def _relation(
    context: Context, a: ModelVersion, b: ModelVersion, learnt: Mapping[str, Mapping[str, int]]
) -> str:
    """Say in numbers what one version has learnt and the other has not."""

    def said(name: str) -> str:
        experiences, records = learnt[name]["experiences"], learnt[name]["records"]
        return (
            f"{experiences} {'experience' if experiences == 1 else 'experiences'} "
            f"({records:,} records)"
        )

    words = (
        f"{said('both')} shared; only version {a.version} has {said('a')}, "
        f"only version {b.version} has {said('b')}"
    )
    for less, more, name in ((a, b, "b"), (b, a, "a")):
        own = "a" if name == "b" else "b"
        if learnt[own]["experiences"] == 0 and learnt[name]["experiences"]:
            words = (
                f"version {more.version} comes after version {less.version}: "
                f"{said('both')} of both, and {said(name)} more"
            )
    for version in (a, b):
        if version.parent is not None and _starts_anew(context, version):
            words += (
                f"; version {version.version} was trained anew "
                f"({version.manifest.lineage.strategy}), not from version {version.parent}"
            )
    return words


def _starts_anew(context: Context, version: ModelVersion) -> bool:
    """Say whether a version's strategy began with the base model instead of the champion."""
    name = str(version.manifest.lineage.strategy)
    with contextlib.suppress(PluginError):  # its plugin may be gone
        strategy = context.manager.get("strategy", name, where="lineage.strategy")
        return bool(getattr(strategy, "begins_again", False))
    return False


def _metrics(a: ModelVersion, b: ModelVersion) -> dict[str, dict[str, float | None]]:
    before, after = a.manifest.metrics, b.manifest.metrics
    found = {}
    for name in dict.fromkeys((*before, *after)):
        one, two = before.get(name), after.get(name)
        difference = None if one is None or two is None else two - one
        found[name] = {"a": one, "b": two, "difference": difference}
    return found


def _sets(a: ModelVersion, b: ModelVersion) -> list[dict[str, Any]]:
    """Give each version's measures on every held-out set that both were judged on."""
    before, after = _set_reports(a), _set_reports(b)
    return [
        {
            "experience": name,
            "rows": after[name].rows,
            "a": before[name].metrics,
            "b": after[name].metrics,
        }
        for name in before
        if name in after
    ]


def _labels(a: ModelVersion, b: ModelVersion) -> dict[str, list[str]]:
    before, after = a.label_space.names, b.label_space.names
    return {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }


def _lineage(version: ModelVersion) -> dict[str, Any]:
    lineage = version.manifest.lineage.to_json()
    return {
        key: lineage.get(key)
        for key in ("strategy", "strategy_options", "seed", "records", "environment")
    } | {"precision": version.manifest.model.precision}


def _changes(before: Any, after: Any) -> dict[str, dict[str, Any]]:
    """Give every key whose value differs, as section.key."""
    one, two = dict(_flat(before)), dict(_flat(after))
    return {
        key: {"a": one.get(key), "b": two.get(key)}
        for key in dict.fromkeys((*one, *two))
        if one.get(key) != two.get(key)
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _common_rows(a: ModelVersion, b: ModelVersion) -> Iterator[_Row]:
    """Pair the answers of both versions on the rows that both have answered."""
    first, second = _answers(a, b), _answers(b, a)
    for record_id, (experience, target, answer) in second.items():
        if record_id in first:
            yield _Row(record_id, experience, target, first[record_id][2], answer)


def _that_count(context: Context, rows: Sequence[_Row]) -> list[_Row]:
    """Leave out the rows that were corrected or forgotten since."""
    ids = [row.record_id for row in rows]
    with context.catalog.read() as connection:
        counting = counting_ids(connection, context.catalog.ids, ids)
    return [row for row in rows if row.record_id in counting]


def _answers(version: ModelVersion, other: ModelVersion) -> dict[str, tuple[str, Target, Target]]:
    """Give a version's answers by record: its own, and those given as the other's champion."""
    given = [(item, item.challenger) for item in _scores(version).sets]
    if _was_champion_of(version, other):
        given += [(item, item.champion) for item in _scores(other).sets if item.champion]
    return {
        record_id: (item.experience, target, answer)
        for item, answers in given
        for record_id, target, answer in zip(
            item.record_ids, item.targets, answers.targets, strict=True
        )
    }


def _was_champion_of(version: ModelVersion, other: ModelVersion) -> bool:
    """Say whether the other version was judged beside this one."""
    with contextlib.suppress(StorageError):
        return read_decision(other.path).champion == version.version
    return False


def _flips(context: Context, rows: Sequence[_Row], examples: int) -> dict[str, Any]:
    kinds: dict[str, list[_Row]] = {"fixed": [], "broken": [], "changed": []}
    for row in rows:
        if row.kind in kinds:
            kinds[row.kind].append(row)
    shown = [row for some in kinds.values() for row in some[:examples]]
    texts = _texts(context, [row.record_id for row in shown])
    return {
        "rows": len(rows),
        **{kind: len(some) for kind, some in kinds.items()},
        "examples": [
            {
                "kind": row.kind,
                "text": texts.get(row.record_id),
                "record_id": row.record_id,
                "experience": row.experience,
                "target": target_to_json(row.target),
                "a": target_to_json(row.first),
                "b": target_to_json(row.second),
            }
            for row in shown
        ],
    }


def _texts(context: Context, record_ids: Sequence[str]) -> dict[str, str]:
    """Give the texts of records; one that was forgotten has none."""
    from contlearn.data.store import read_records

    return {
        record.record_id: " | ".join(
            value if isinstance(value, str) else " ".join(map(str, value))
            for value in record.inputs.values()
        )
        for record in read_records(context.workspace, context.catalog, record_ids)
    }


def _scores(version: ModelVersion) -> Scores:
    """Read a version's answers; versions of plugins and of old may lack them."""
    there = (version.path / SCORES).exists()
    return read_scores(version.path) if there else Scores()


def _set_reports(version: ModelVersion) -> dict[str, SetReport]:
    """Give a version's measures by experience; nothing where it has no report."""
    with contextlib.suppress(StorageError):
        return {item.experience: item for item in read_report(version.path).sets}
    return {}
