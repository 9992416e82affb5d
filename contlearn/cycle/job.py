"""What the parent tells the child, and the layout of a cycle's work folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.errors import StorageError
from contlearn.workspace import read_json, write_json_atomic

__all__ = ["FORMAT_VERSION", "STAGES", "CycleFolder", "Job"]

FORMAT_VERSION: Final = 1
# The child's stages, in order; each leaves a marker, so that a second run skips what is done.
STAGES: Final = ("training", "exporting", "evaluating", "deciding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One cycle as the child must do it; `config` is frozen when the cycle is planned.

    The workspace is the one that the folder lies in, so that a copied or moved workspace goes on
    with its own. `anchor` is the best proven version of the lineage, as `Anchor.to_json` gives it.
    """

    cycle_id: str
    config: Mapping[str, Any]
    strategy: str
    champion: int | None
    experience: int
    lineage: tuple[str, ...]
    anchor: Mapping[str, int] | None = None
    format_version: int = FORMAT_VERSION

    def save(self, folder: CycleFolder) -> None:
        """Write the job into the cycle's folder."""
        write_json_atomic(folder.job, asdict(self))

    @classmethod
    def load(cls, folder: CycleFolder) -> Job:
        """Read the job of a cycle.

        Raises:
            StorageError: When it is missing, damaged, or of another format version.
        """
        value = read_json(folder.job)
        if value.get("format_version") != FORMAT_VERSION:
            raise StorageError(
                f"The job has format version {value.get('format_version')}, not {FORMAT_VERSION}.",
                where=str(folder.job),
                hint="Finish the cycle with the contlearn that planned it.",
            )
        value["lineage"] = tuple(value["lineage"])
        for name in ("workspace", "plugins_dir"):  # earlier jobs said where they were
            value.pop(name, None)
        return cls(**value)


@dataclass(frozen=True, slots=True)
class CycleFolder:
    """state/cycles/<id>/: job, log, work in progress, and the version being built."""

    path: Path

    @property
    def workspace(self) -> Path:
        """The workspace that the folder lies in."""
        return self.path.absolute().parents[2]

    @property
    def job(self) -> Path:
        """What to do."""
        return self.path / "job.json"

    @property
    def log(self) -> Path:
        """What the child wrote to standard error."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the child that works here."""
        return self.path / ".lock"

    @property
    def work(self) -> Path:
        """Training checkpoints; thrown away at the end."""
        return self.path / "work"

    @property
    def version(self) -> Path:
        """The version being built: onnx/, checkpoint/, state/, reports."""
        return self.path / "version"

    @property
    def progress(self) -> Path:
        """How far the running cycle is, for `status`."""
        return self.path / "progress.json"

    @property
    def result(self) -> Path:
        """What the child found, when all stages are done."""
        return self.path / "result.json"

    @property
    def page(self) -> Path:
        """The report with texts, until its version has a number."""
        return self.path / "report.html"

    def marker(self, stage: str) -> Path:
        """The file that says a stage is done, with its numbers."""
        return self.path / f"done-{stage}.json"
