"""Counting refused rows by reason, from the quarantine's files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["QuarantineTally"]


@dataclass
class QuarantineTally:
    """Counts reasons, reading each file once: a file of the quarantine is written whole.

    Args:
        folder: state/quarantine.
    """

    folder: Path
    _seen: dict[str, tuple[tuple[int, int], Counter[str]]] = field(default_factory=dict, init=False)

    def counts(self) -> dict[str, int]:
        """Give the number of rows for each reason code."""
        found: dict[str, tuple[tuple[int, int], Counter[str]]] = {}
        for path in self.folder.glob("*.jsonl"):
            try:
                stat = path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size)
                old = self._seen.get(path.name)
                found[path.name] = old if old and old[0] == stamp else (stamp, _reasons(path))
            except FileNotFoundError:  # taken away in between
                continue
        self._seen = found
        return dict(sum((counter for _, counter in found.values()), Counter()))


def _reasons(path: Path) -> Counter[str]:
    reasons: Counter[str] = Counter()
    with path.open("rb") as lines:
        for line in lines:
            try:
                reasons[str(json.loads(line)["reason"])] += 1
            except (ValueError, KeyError, TypeError):
                continue
    return reasons
