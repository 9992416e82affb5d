"""A gate rule for labels that must not get worse, and a file of champion changes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from contlearn.errors import EvaluationError
from contlearn.plugins import hookimpl
from contlearn.types import LabelScore, RuleOutcome

if TYPE_CHECKING:
    from contlearn.interfaces import GateEvidence
    from contlearn.types import Event, SetScores

LOG_VARIABLE = "CONTLEARN_CHAMPION_LOG"
_TOLD = ("promoted", "rolled-back")


class ProtectedLabelsOptions(BaseModel):
    """[gate.rule_options.protected-labels]: which labels, and how much recall they may lose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: tuple[str, ...] = Field(min_length=1)
    max_loss: float = Field(ge=0.0, lt=1.0)


class ProtectedLabels:
    """Named labels keep their recall on all old held-out rows together."""

    name: ClassVar[str] = "protected-labels"
    summary: ClassVar[str] = "named labels keep their recall on what was known"
    Options: ClassVar[type[BaseModel]] = ProtectedLabelsOptions

    def __init__(self, options: ProtectedLabelsOptions) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Compare the recall of each named label; one outcome a label."""
        known = {
            score.label
            for pair in evidence.sets
            for score in evidence.task.per_label(
                pair.challenger.statistics.sum(axis=0), evidence.labels
            )
        }
        old = [pair for pair in evidence.sets if not pair.is_new and pair.champion is not None]
        if not old:
            return (self._outcome(None, None, "Not applicable: there is nothing to compare with."),)
        unknown = sorted(set(self.options.labels) - known - set(evidence.labels.names))
        if unknown:
            raise EvaluationError(
                f"The protected labels {', '.join(map(repr, unknown))} are not known.",
                where="gate.rule_options.protected-labels.labels in contlearn.toml",
                hint=f"Known labels: {', '.join(sorted(known))}.",
            )
        before = _by_label(evidence, [pair.champion for pair in old if pair.champion is not None])
        after = _by_label(evidence, [pair.challenger for pair in old])
        return tuple(
            self._judge_label(label, before.get(label), after.get(label))
            for label in self.options.labels
        )

    def _judge_label(
        self, label: str, before: LabelScore | None, after: LabelScore | None
    ) -> RuleOutcome:
        if before is None or after is None or before.support == 0:
            return self._outcome(None, None, f"Not applicable: no old row expects {label!r}.")
        loss = before.recall - after.recall
        # One row more than before is never a refusal: with few rows it is a large share.
        passed = loss <= max(self.options.max_loss, 1.0 / before.support) + 1e-9
        return self._outcome(
            passed,
            loss,
            f"{label!r}: recall on {before.support} old rows went from {before.recall:.1%} to "
            f"{after.recall:.1%}; it may lose {self.options.max_loss:.1%}.",
        )

    def _outcome(self, passed: bool | None, measured: float | None, message: str) -> RuleOutcome:
        return RuleOutcome(
            rule=self.name,
            passed=passed,
            measured=measured,
            required=None if measured is None else self.options.max_loss,
            message=message,
        )


def _by_label(evidence: GateEvidence, scores: list[SetScores]) -> dict[str, LabelScore]:
    sums = sum(score.statistics.sum(axis=0) for score in scores)
    return {score.label: score for score in evidence.task.per_label(sums, evidence.labels)}


@hookimpl
def contlearn_register_gate_rules() -> list[type]:
    """Give the rule."""
    return [ProtectedLabels]


@hookimpl
def contlearn_on_event(event: Event) -> None:
    """Write one line for each change of the champion, where a file is named."""
    path = os.environ.get(LOG_VARIABLE)
    if path is None or event.kind not in _TOLD:
        return
    fields = {name: event.fields.get(name) for name in ("version", "previous", "actor", "reason")}
    line = {"event": event.kind, "at": event.at.isoformat(), "workspace": event.workspace, **fields}
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
