"""`report.json` of a version: what was measured on the held-out sets, beside the champion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from contlearn.papers.reading import read_paper
from contlearn.targets import target_from_json, target_to_json
from contlearn.types import LabelScore, Metric, Target
from contlearn.wording import OVER_EXPERIENCES

__all__ = [
    "REPORT",
    "Comparison",
    "EvaluationReport",
    "Flip",
    "Matrix",
    "SetReport",
    "SliceScore",
    "measured_by",
    "read_report",
]

REPORT: Final = "report.json"
FORMAT_VERSION: Final = 1
# R[t, k]; what was not measured is None.
Matrix: TypeAlias = "tuple[tuple[float | None, ...], ...]"
_LABEL: Final = ("label", "precision", "recall", "f1", "support")
_SLICE: Final = ("by", "value", "rows", "challenger", "champion")
_FLIP: Final = ("record_id", "set", "target", "before", "after", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """The measures on one held-out set.

    `champion` and `majority` (of the answer that is always the commonest label) stand in reports of
    a cycle only.
    """

    experience: str
    index: int
    rows: int
    metrics: Mapping[str, float]
    is_new: bool = False
    content_hash: str = ""
    champion: Mapping[str, float] | None = None
    majority: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SetReport:
        """Read one item of `sets`."""
        return cls(
            experience=value.get("experience", ""),
            index=value["index"],
            rows=value["rows"],
            metrics=value["metrics"],
            is_new=bool(value.get("is_new")),
            content_hash=value.get("content_hash", ""),
            champion=value.get("champion"),
            majority=value.get("majority"),
        )

    def to_json(self, *, compared: bool) -> dict[str, Any]:
        """Give the item of `sets`; `compared` says whether it stands in a cycle's report."""
        value: dict[str, Any] = {
            "experience": self.experience,
            "index": self.index,
            "is_new": self.is_new,
            "rows": self.rows,
            "metrics": dict(self.metrics),
            "content_hash": self.content_hash,
        }
        if compared:
            value["champion"] = None if self.champion is None else dict(self.champion)
            value["majority"] = self.majority
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A row that matters to a reader, by its record's id; `set` is the index of its set."""

    record_id: str
    set: int
    target: Target
    before: Target | None
    after: Target
    confidence: float | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Flip:
        """Read one item of a list of `flips`."""
        return cls(
            record_id=value["record_id"],
            set=value["set"],
            target=target_from_json(value["target"]),
            before=None if value.get("before") is None else target_from_json(value["before"]),
            after=target_from_json(value["after"]),
            confidence=value.get("confidence"),
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as the report holds it."""
        return {name: target_to_json(getattr(self, name)) for name in _FLIP}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScore:
    """How both versions do on one slice; `champion` is None where there is none."""

    by: str
    value: str
    rows: int
    challenger: float
    champion: float | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SliceScore:
        """Read one item of `slices`."""
        return cls(**{name: value[name] for name in _SLICE})

    def to_json(self) -> dict[str, Any]:
        """Give it as the report holds it."""
        return {name: getattr(self, name) for name in _SLICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What only a cycle measures: the challenger beside the champion, and what it costs.

    `reliability`, `runtime` and `text_slices` are as their makers in `evaluation` and `monitoring`
    give them; the last one only stands where slices of texts are configured.
    """

    experiences: tuple[str | None, ...] = ()
    reliability: Mapping[str, Any] | None = None
    runtime: Mapping[str, Any] | None = None
    slices: tuple[SliceScore, ...] = ()
    metric: str | None = None
    champion_metrics: Mapping[str, float] | None = None
    flips: Mapping[str, tuple[Flip, ...]] = field(default_factory=dict)
    label_counts: Mapping[str, int] = field(default_factory=dict)
    text_slices: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        """Read a report; earlier ones lack some of it."""
        flips = value.get("flips") or {}
        texts = value.get("text_slices")
        return cls(
            experiences=tuple(value.get("experiences") or ()),
            reliability=value.get("reliability"),
            runtime=value.get("runtime"),
            slices=tuple(map(SliceScore.from_json, value.get("slices") or ())),
            metric=value.get("metric"),
            champion_metrics=value.get("champion_metrics"),
            flips={kind: tuple(map(Flip.from_json, items)) for kind, items in flips.items()},
            label_counts=value.get("label_counts") or {},
            text_slices=None if texts is None else tuple(texts),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the keys that a cycle's report holds behind those of every report."""
        value: dict[str, Any] = {
            "experiences": list(self.experiences),
            "reliability": self.reliability,
            "runtime": self.runtime,
            "slices": [item.to_json() for item in self.slices],
            "metric": self.metric,
            "champion_metrics": self.champion_metrics,
            "flips": {kind: [one.to_json() for one in some] for kind, some in self.flips.items()},
            "label_counts": dict(self.label_counts),
        }
        if self.text_slices is not None:
            value["text_slices"] = list(self.text_slices)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Scores of one version over all held-out sets.

    `accuracy_matrix[t][k]` is the primary measure on held-out set k after experience t; what was
    not measured is null. `measures` says which metrics are no shares of which more is better, and
    what they are; `comparison` stands in reports of a cycle.
    """

    metrics: Mapping[str, float | None]
    accuracy_matrix: Matrix
    per_label: tuple[LabelScore, ...]
    sets: tuple[SetReport, ...]
    version: int | None = None
    primary_metric: str = "accuracy"
    confusion: Mapping[str, Any] | None = None
    comparison: Comparison | None = None
    measures: tuple[Metric, ...] = ()

    def measure(self, name: str) -> Metric | None:
        """Give what a metric is, where it is no share; those over experiences go by the primary."""
        wanted = self.primary_metric if name in OVER_EXPERIENCES else name
        return next((metric for metric in self.measures if metric.name == wanted), None)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EvaluationReport:
        """Read a report of this contlearn or of an earlier one.

        Raises:
            KeyError, TypeError: When it is damaged.
        """
        return cls(
            version=value.get("version"),
            metrics=value.get("metrics") or {},
            primary_metric=value.get("primary_metric", "accuracy"),
            accuracy_matrix=tuple(map(tuple, value.get("accuracy_matrix") or ())),
            per_label=tuple(
                LabelScore(**{name: item[name] for name in _LABEL})
                for item in value.get("per_label") or ()
            ),
            confusion=value.get("confusion"),
            sets=tuple(map(SetReport.from_json, value.get("sets") or ())),
            comparison=Comparison.from_json(value),
            measures=tuple(
                Metric(name=name, **what) for name, what in (value.get("measures") or {}).items()
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the fields that `evaluate --json` prints and report.json holds."""
        compared = self.comparison is not None
        value: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "version": self.version,
            "metrics": dict(self.metrics),
            "primary_metric": self.primary_metric,
            "accuracy_matrix": [list(row) for row in self.accuracy_matrix],
            "per_label": [{name: getattr(one, name) for name in _LABEL} for one in self.per_label],
            "confusion": None if self.confusion is None else dict(self.confusion),
            "sets": [item.to_json(compared=compared) for item in self.sets],
        }
        if self.measures:
            value["measures"] = {metric.name: metric.to_json() for metric in self.measures}
        return value if self.comparison is None else value | self.comparison.to_json()


def measured_by(metrics: Iterable[Metric], primary: str) -> dict[str, Any]:
    """Say in a result which measure is the primary one, and which are no shares.

    `wording.Measures.of` reads it.
    """
    unlike = {metric.name: metric.to_json() for metric in metrics if not metric.is_share}
    return {"primary_metric": primary, **({"measures": unlike} if unlike else {})}


def read_report(folder: Path) -> EvaluationReport:
    """Read the report in a version's folder.

    Raises:
        StorageError: When it is missing or damaged.
    """
    return read_paper(folder / REPORT, EvaluationReport.from_json)
