"""What the child of a cycle leaves behind: a marker for each stage, at last its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from contlearn.cycle.job import CycleFolder
from contlearn.papers.manifest import VersionFacts
from contlearn.papers.reading import read_paper
from contlearn.types import Calibration, PromotionDecision
from contlearn.workspace import write_json_atomic

__all__ = ["CycleResult", "Decided", "Evaluated", "Exported", "Trained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A stage that is done; `source` is all that its marker holds."""

    stage: ClassVar[str]
    seconds: float
    peak_bytes: int
    source: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, folder: CycleFolder) -> Self:
        """Read the stage's marker.

        Raises:
            StorageError: When it is missing or damaged.
        """
        return read_paper(folder.marker(cls.stage), cls.from_json)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what the marker holds."""
        raise NotImplementedError  # each stage reads its own

    def to_json(self) -> dict[str, Any]:
        """Give all that the marker holds."""
        return dict(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(_Done):
    """What was trained. `data_hash` is None in markers of an earlier contlearn.

    `fit` are seconds and texts of the fine-tuning itself, `search` and `warnings` are from the
    strategy's notes.
    """

    stage = "training"
    labels: tuple[str, ...]
    calibration: Calibration
    strategy: str
    options: Mapping[str, Any]
    steps: int
    seed: int
    trained_share: float
    records_new: int
    data_hash: str | None
    fit: Mapping[str, float | None]
    search: Mapping[str, Any] | None
    warnings: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what the marker holds."""
        notes = value["notes"]
        tuned = notes.get("fine_tuning") or {}
        return cls(
            **_cost(value),
            labels=tuple(value["labels"]),
            calibration=Calibration.from_json(value),
            strategy=value["strategy"],
            options=value["options"],
            steps=value["steps"],
            seed=value["seed"],
            trained_share=value["trained_share"],
            records_new=value["records_new"],
            data_hash=value.get("data_hash"),
            fit={name: tuned.get(name) for name in ("seconds", "samples")},
            search=notes.get("search"),
            warnings=tuple(notes.get("warnings", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(_Done):
    """What was exported. Markers of an earlier contlearn have no `pad_id` and no `warnings`."""

    stage = "exporting"
    precision: str
    processor: tuple[str, ...]
    pad_id: int
    warnings: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what the marker holds."""
        return cls(
            **_cost(value),
            precision=value["precision"],
            processor=tuple(value["processor"]),
            pad_id=value.get("pad_id", 0),
            warnings=tuple(value.get("warnings", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(_Done):
    """What was measured. An earlier contlearn looked for no `suspects`.

    Of `anchor_unknown` rows nobody knows what the best proven version answers.
    """

    stage = "evaluating"
    metrics: Mapping[str, float | None]
    suspects: Mapping[str, Any]
    anchor_unknown: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what the marker holds."""
        suspects = value.get("suspects", {})
        unknown = value.get("anchor_unknown", 0)
        return cls(
            **_cost(value), metrics=value["metrics"], suspects=suspects, anchor_unknown=unknown
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(_Done):
    """What the gate decided, and how the challenger compares with the best proven version.

    `anchor` is None where there was nothing to compare; its `counts` says whether the look counts.
    """

    stage = "deciding"
    decision: PromotionDecision
    anchor: Mapping[str, Any] | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what the marker holds."""
        decision = PromotionDecision.from_json(value["decision"])
        return cls(**_cost(value), decision=decision, anchor=value.get("anchor"))


def _cost(value: Mapping[str, Any]) -> dict[str, Any]:
    """Read what every marker holds."""
    return {"seconds": value["seconds"], "peak_bytes": value["peak_bytes"], "source": value}


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What the parent registers and settles; `numbers` go into the catalog as they are."""

    facts: VersionFacts
    decision: PromotionDecision
    numbers: Mapping[str, Any]

    def save(self, folder: CycleFolder) -> None:
        """Write the result into the cycle's folder, which says that the child has done its work."""
        write_json_atomic(
            folder.result,
            {
                "facts": self.facts.to_json(),
                "decision": self.decision.to_json(),
                "numbers": self.numbers,
            },
        )

    @classmethod
    def load(cls, folder: CycleFolder) -> CycleResult:
        """Read the result of a cycle.

        Raises:
            StorageError: When it is missing or damaged.
        """
        return read_paper(
            folder.result,
            lambda value: cls(
                facts=VersionFacts.from_json(value["facts"]),
                decision=PromotionDecision.from_json(value["decision"]),
                numbers=value["numbers"],
            ),
        )
