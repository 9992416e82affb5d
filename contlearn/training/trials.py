"""The finished trials of a search, on disk: a kill loses none, and none is asked twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contlearn.workspace import storage_border

__all__ = ["Journal", "Trial"]


@dataclass(slots=True)
class Trial:
    """One finished trial: "done", "cut short" or "failed", with the score of each epoch."""

    settings: dict[str, Any]
    state: str
    score: float | None
    epochs: list[float]
    seconds: float
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class Journal:
    """A line a trial behind the fingerprint of their search; those of another are thrown away."""

    path: Path
    fingerprint: str
    trials: list[Trial] = field(default_factory=list)

    def load(self) -> None:
        """Read what is there, if it belongs to this search."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:  # cut off by a kill
                break
        if found and found[0] == {"fingerprint": self.fingerprint}:
            self.trials = [Trial(**item) for item in found[1:]]
        self._write()

    def add(self, trial: Trial) -> None:
        """Keep one more."""
        self.trials.append(trial)
        with (
            storage_border("save the search", self.path),
            self.path.open("a", encoding="utf-8") as lines,
        ):
            lines.write(json.dumps(trial.to_json()) + "\n")

    def _write(self) -> None:
        """Write what was understood, so that nothing is appended to half a line."""
        values = [{"fingerprint": self.fingerprint}, *(trial.to_json() for trial in self.trials)]
        with storage_border("save the search", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(v) + "\n" for v in values), encoding="utf-8")
