"""`manifest.json` of a version: what it is, how it came about, and the hashes of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from contlearn.errors import RegistryError
from contlearn.types import Calibration
from contlearn.workspace import read_json

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "ExportFacts",
    "LineageFacts",
    "Manifest",
    "ModelFacts",
    "TrainingFacts",
    "VersionFacts",
    "find_manifest",
    "read_manifest",
]

MANIFEST: Final = "manifest.json"
FORMAT_VERSION: Final = 1
# How manifests of an earlier contlearn named what a graph answers.
_PIPELINES: Final = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a manifest; `source` is all that was read, keys of other versions among them."""

    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Give the part as it was read."""
        return dict(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts(_Part):
    """What the graph is and how it is asked. What an earlier contlearn did not write is None."""

    labels: tuple[str, ...] = ()
    task: str | None = None
    max_tokens: int | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    precision: str | None = None
    processor: tuple[str, ...] = ()
    base: str | None = None
    pooling: str | None = None
    pad_id: int = 0
    pipeline: str | None = None
    unknown: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelFacts:
        """Read the part `model`.

        Raises:
            ValueError: When it says what no model can be asked with.
        """
        _check_model(value)
        unknown = value.get("unknown")
        return cls(
            source=value,
            labels=tuple(value.get("labels") or ()),
            task=value.get("task"),
            max_tokens=value.get("max_tokens"),
            task_options=value.get("task_options") or {},
            calibration=Calibration.from_json(value),
            precision=value.get("precision"),
            processor=tuple(value.get("processor") or ()),
            base=value.get("base"),
            pooling=value.get("pooling"),
            pad_id=int(value.get("pad_id", 0)),
            pipeline=value.get("pipeline") or _PIPELINES.get(value.get("graph", "")),
            unknown=unknown if isinstance(unknown, Mapping) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageFacts(_Part):
    """Where a version comes from: its experiences in order, strategy, data and configuration.

    `anchor` is the best proven version, None where that is this one, and `against_anchor` says how
    this one compares with it.
    """

    experiences: tuple[str, ...] = ()
    cycle: str | None = None
    strategy: str | None = None
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None
    seed: int | None = None
    records: int | None = None
    data_hash: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    anchor: int | None = None
    against_anchor: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LineageFacts:
        """Read the part `lineage`."""
        return cls(
            source=value,
            experiences=tuple(value.get("experiences") or ()),
            cycle=value.get("cycle"),
            strategy=value.get("strategy"),
            strategy_options=value.get("strategy_options") or {},
            search=value.get("search"),
            seed=value.get("seed"),
            records=value.get("records"),
            data_hash=value.get("data_hash"),
            config=value.get("config") or {},
            environment=value.get("environment") or {},
            anchor=value.get("anchor"),
            against_anchor=value.get("against_anchor"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts(_Part):
    """What the fit took, and what it left in the buffer."""

    steps: int | None = None
    seconds: float | None = None
    trained_share: float | None = None
    label_counts: Mapping[str, int] = field(default_factory=dict)
    buffer_records: int | None = None
    buffer_capacity: int | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingFacts:
        """Read the part `training`."""
        return cls(
            source=value,
            steps=value.get("steps"),
            seconds=value.get("seconds"),
            trained_share=value.get("trained_share"),
            label_counts=value.get("label_counts") or {},
            buffer_records=value.get("buffer_records"),
            buffer_capacity=value.get("buffer_capacity"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts(_Part):
    """How the graph compares with the model it was made from."""

    label_agreement: float | None = None
    max_abs_difference: float | None = None
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExportFacts:
        """Read the part `export`."""
        return cls(
            source=value,
            label_agreement=value.get("label_agreement"),
            max_abs_difference=value.get("max_abs_difference"),
            size_bytes=value.get("size_bytes"),
            notes=tuple(value.get("notes") or ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts(_Part):
    """What is known of a version before it has its number.

    `golden` is read by `inference.golden`, `doubted` are the labels that the cycle doubts.
    """

    model: ModelFacts = ModelFacts()
    lineage: LineageFacts = LineageFacts()
    training: TrainingFacts = TrainingFacts()
    export: ExportFacts = ExportFacts()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    golden: Mapping[str, Any] | None = None
    doubted: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> VersionFacts:
        """Read the facts; what is not there stays empty."""
        return cls(**_facts(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(VersionFacts):
    """A whole manifest. `files` gives size and SHA-256 by relative name."""

    version: int
    files: Mapping[str, Mapping[str, Any]]
    cycle: str | None = None
    parent: int | None = None
    created_at: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Read a manifest.

        Raises:
            KeyError, TypeError, ValueError: When a part is missing or is something else.
        """
        _check_files(value["files"])
        return cls(
            **_facts(value),
            version=int(value["version"]),
            files=value["files"],
            cycle=value.get("cycle"),
            parent=value.get("parent"),
            created_at=value.get("created_at"),
        )

    def with_parts(self, **parts: Mapping[str, Any]) -> Manifest:
        """Put others in the place of some parts."""
        return Manifest.from_json({**self.source, **parts})


def _check_model(value: Mapping[str, Any]) -> None:
    """Refuse what would make every answer wrong, or fail only when the first is asked for."""
    labels = value.get("labels") or ()
    if not isinstance(labels, list | tuple) or not all(isinstance(name, str) for name in labels):
        raise ValueError("model.labels is not a list of names")
    if len(set(labels)) != len(labels):
        raise ValueError("model.labels has a name twice")
    _check_number(value, "temperature", above=0.0)
    _check_number(value, "max_tokens", above=0.0, whole=True)
    _check_number(value, "pad_id", above=-1.0, whole=True)
    for part, names in (("calibration", None), ("unknown", ("threshold",))):
        numbers = value.get(part) or {}
        if not isinstance(numbers, Mapping):
            raise ValueError(f"model.{part} is not a part of its own")
        for name in numbers if names is None else names:
            _check_number(numbers, name, called=f"{part}.{name}", needed=bool(numbers))


def _check_number(
    value: Mapping[str, Any],
    name: str,
    *,
    called: str | None = None,
    above: float = -math.inf,
    whole: bool = False,
    needed: bool = False,
) -> None:
    number = value.get(name)
    if number is None and not needed:
        return
    if (
        not isinstance(number, int if whole else int | float)
        or isinstance(number, bool)
        or not math.isfinite(number)
        or number <= above
    ):
        kind = "whole number" if whole else "number"
        least = "" if above == -math.inf else f" above {above:g}"
        raise ValueError(f"model.{called or name} is {number!r}, not a {kind}{least}")


def _check_files(files: object) -> None:
    """Refuse names that lead out of the version's folder, and facts that nothing can be held to."""
    if not isinstance(files, Mapping):
        raise TypeError("files is not a part of its own")
    for name, facts in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"files names {name!r}, which is not in the version's folder")
        size = facts.get("size") if isinstance(facts, Mapping) else None
        if not isinstance(size, int) or not isinstance(facts.get("sha256"), str):
            raise ValueError(f"files says no size and SHA-256 of {name!r}")


def _facts(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": value,
        "model": ModelFacts.from_json(value.get("model") or {}),
        "lineage": LineageFacts.from_json(value.get("lineage") or {}),
        "training": TrainingFacts.from_json(value.get("training") or {}),
        "export": ExportFacts.from_json(value.get("export") or {}),
        "metrics": value.get("metrics") or {},
        "golden": value.get("golden"),
        "doubted": value.get("doubted"),
    }


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check its format.

    Raises:
        StorageError: When it is missing or damaged.
        RegistryError: When another contlearn wrote it, or a part is not there.
    """
    value = read_json(path)
    if value.get("format_version") != FORMAT_VERSION:
        raise RegistryError(
            f"The manifest has format version {value.get('format_version')}, not {FORMAT_VERSION}.",
            where=str(path),
            hint="Use the contlearn that wrote it.",
        )
    missing = [key for key in ("version", "files", "model") if key not in value]
    model = value.get("model")
    if isinstance(model, dict) and "labels" not in model:
        missing.append("model.labels")
    hint = "`contlearn verify` says which versions are whole; roll back to one of them."
    if missing:
        raise RegistryError(f"The manifest lacks {', '.join(missing)}.", where=str(path), hint=hint)
    try:
        return Manifest.from_json(value)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise RegistryError(
            f"The manifest is damaged: {error}.", where=str(path), hint=hint
        ) from error


def find_manifest(folder: Path) -> Path:
    """Find the manifest of a model folder: in it (serving copy) or beside it (version/onnx).

    Raises:
        RegistryError: When there is none.
    """
    for candidate in (folder / MANIFEST, folder.parent / MANIFEST):
        if candidate.is_file():
            return candidate
    raise RegistryError(
        f"The folder {folder.name} has no {MANIFEST}.",
        where=str(folder),
        hint="Name a folder of the serving directory, or versions/<n>/onnx.",
    )
