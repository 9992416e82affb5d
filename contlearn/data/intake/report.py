"""What an ingest says: per file and in all, as `ingest --json` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from contlearn.data.intake.label_book import NearName

__all__ = ["FileReport", "IngestReport", "Notices", "Verdict", "say_forgotten"]

Verdict: TypeAlias = Literal["ok", "partial", "reject"]
# How many examples of one problem are shown.
EXAMPLES: Final = 3


@dataclass
class Notices:
    """Counts of problems or warnings by code, with the first examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, code: str, message: str, *, line: int | None = None, hint: str = "") -> None:
        """Count one, and keep it if it is among the first."""
        self.counts[code] = self.counts.get(code, 0) + 1
        kept = self.examples.setdefault(code, [])
        if len(kept) < EXAMPLES:
            example: dict[str, Any] = {"message": message}
            if line is not None:
                example["line_number"] = line
            if hint:
                example["hint"] = hint
            kept.append(example)

    def to_json(self) -> list[dict[str, Any]]:
        """Give one entry a code, the commonest first."""
        return [
            {"code": code, "count": count, "examples": self.examples[code]}
            for code, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        ]


@dataclass(kw_only=True)
class FileReport:
    """What became of one file. The first four counts add up to `rows`.

    `forgotten` of the duplicates have texts that `data forget` took out. `superseded` is how many
    earlier labels gave way to one of this file.
    """

    path: str
    verdict: Verdict = "ok"
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    held_out: int = 0
    forgotten: int = 0
    superseded: int = 0
    reason: str | None = None
    message: str | None = None
    hint: str | None = None
    known: bool = False
    quarantine: str | None = None
    problems: Notices = field(default_factory=Notices)
    warnings: Notices = field(default_factory=Notices)
    new_labels: Sequence[str] = ()
    near_labels: Sequence[NearName] = ()

    def start_again(self) -> None:
        """Forget what an earlier reading of the file's rows said."""
        self.rows = self.rejected = 0
        self.problems, self.warnings = Notices(), Notices()
        self.message = None

    def to_json(self) -> dict[str, Any]:
        """Give the entry of `files[]`."""
        return {
            "path": self.path,
            "verdict": self.verdict,
            "rows": self.rows,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "rejected": self.rejected,
            "held_out": self.held_out,
            "forgotten": self.forgotten,
            "superseded": self.superseded,
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "known": self.known,
            "quarantine": self.quarantine,
            "problems": self.problems.to_json(),
            "warnings": self.warnings.to_json(),
            "new_labels": list(self.new_labels),
            "near_labels": [item.to_json() for item in self.near_labels],
        }


def say_forgotten(report: FileReport, number: int, *, line: int | None = None) -> None:
    """Say of a file that some of its rows have texts that were forgotten, and what to do."""
    report.forgotten = number
    report.warnings.add(
        "forgotten",
        f"{number} rows were forgotten by `data forget`; they are not taken in.",
        line=line,
        hint="`contlearn ingest --bring-back-forgotten FILE` brings them back.",
    )


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What an ingest did, or with `dry_run` would do.

    `doubted` is what the champion says of the new labels, where somebody had it asked.
    """

    files: Sequence[FileReport]
    quarantine: str
    waiting: int = 0
    dry_run: bool = False
    doubted: Mapping[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        """0 if every file was read, 1 if one was refused whole."""
        return 1 if any(file.verdict == "reject" for file in self.files) else 0

    @property
    def accepted(self) -> int:
        """How many records were taken in."""
        return self._sum("accepted")

    def _sum(self, name: str) -> int:
        return sum(getattr(file, name) for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Give the fields of `ingest --json`."""
        return {
            "accepted": self._sum("accepted"),
            "duplicates": self._sum("duplicates"),
            "conflicts": self._sum("conflicts"),
            "rejected": self._sum("rejected"),
            "rows": self._sum("rows"),
            "held_out": self._sum("held_out"),
            "forgotten": self._sum("forgotten"),
            "superseded": self._sum("superseded"),
            "files": [file.to_json() for file in self.files],
            "quarantine": self.quarantine,
            "waiting": self.waiting,
            "dry_run": self.dry_run,
            "doubted": None if self.doubted is None else dict(self.doubted),
        }
