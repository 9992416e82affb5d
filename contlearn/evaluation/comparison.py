"""What changed between two versions: measures, labels, and rows that changed sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contlearn.evaluation.answers import Answers, unpack_targets
from contlearn.evaluation.scoring import REPORT, SCORES
from contlearn.types import Target
from contlearn.workspace import read_json

__all__ = ["compare_versions"]


def compare_versions(before: Path, after: Path, *, limit: int = 20) -> dict[str, Any]:
    """Compare two version folders by what they stored about themselves.

    Rows are compared where both versions were scored on them; no model is run.

    Args:
        before: The older version's folder.
        after: The newer one's.
        limit: How many record ids of flips are named, in each direction.
    Returns:
        `metrics` and `per_label` as pairs, `labels_added`, and `flips`: `rows` compared, `lost`
        and `won` (numbers), and up to `limit` entries each with record id, target and answers.
    Raises:
        StorageError: When a report is missing or damaged.
    """
    reports = [read_json(folder / REPORT) for folder in (before, after)]
    scores = [read_json(folder / SCORES) for folder in (before, after)]
    f1 = [{item["label"]: item["f1"] for item in report["per_label"]} for report in reports]
    old, new = (_answers(value) for value in scores)
    common = [record_id for record_id in old if record_id in new]
    lost, won = [], []
    for record_id in common:
        target, answer_before = old[record_id]
        _, answer_after = new[record_id]
        flip = {
            "record_id": record_id,
            "target": target,
            "before": answer_before,
            "after": answer_after,
        }
        if answer_before == target != answer_after:
            lost.append(flip)
        elif answer_after == target != answer_before:
            won.append(flip)
    return {
        "metrics": _pairs(*(report["metrics"] for report in reports)),
        "per_label": _pairs(*f1),
        "labels_added": [n for n in scores[1]["labels"] if n not in scores[0]["labels"]],
        "flips": {
            "rows": len(common),
            "lost": len(lost),
            "won": len(won),
            "lost_rows": lost[:limit],
            "won_rows": won[:limit],
        },
    }


def _answers(value: Mapping[str, Any]) -> dict[str, tuple[Target, Target]]:
    """Give target and answer of every row by record id."""
    found: dict[str, tuple[Target, Target]] = {}
    for item in value["sets"]:
        targets = unpack_targets(item["targets"])
        answers = Answers.from_json(item["challenger"]).targets
        found.update(zip(item["record_ids"], zip(targets, answers, strict=True), strict=True))
    return found


def _pairs(
    before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> dict[str, dict[str, float | None]]:
    names = dict.fromkeys([*before, *after])
    return {name: {"before": before.get(name), "after": after.get(name)} for name in names}
