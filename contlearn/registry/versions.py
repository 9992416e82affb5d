"""Version folders: numbered once, complete or absent, never changed.

```
versions/<n>/    manifest.json, onnx/, checkpoint/, state/, report.json, decision.json, …
versions/events.jsonl   the journal
versions/.lock          held by the one process that registers, promotes, rolls back or deletes
```
The serving directory belongs to `promotion`; here it is only read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, Final, TypeAlias

from contlearn.config import Config
from contlearn.errors import RegistryError, StorageError
from contlearn.inference.manifest import SIGNATURE, check_files, describe_files, digest_file
from contlearn.inference.signature import sign_manifest, signature_problems
from contlearn.interfaces import Clock
from contlearn.papers.journal import CHANGES, JournalRecord
from contlearn.papers.manifest import FORMAT_VERSION, MANIFEST, Manifest, read_manifest
from contlearn.registry.journal import Journal
from contlearn.registry.leases import leased_versions
from contlearn.registry.preflight import check_in_child
from contlearn.registry.store import LocalArtifactStore
from contlearn.types import LabelSpace
from contlearn.version import __version__
from contlearn.workspace import (
    FileOperations,
    SystemClock,
    Workspace,
    file_lock,
    make_read_only,
    storage_border,
    write_bytes_atomic,
    write_json_atomic,
)

__all__ = ["ModelVersion", "Preflight", "Registry"]

# Loads a serving folder and compares its golden answers; gives problems, none when it is well.
Preflight: TypeAlias = Callable[[Path], "list[str]"]
_LOCK_SECONDS: Final = 60.0
_NO_FOLDER: Final = "it is a link or a file, not a folder of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """An immutable version folder of the registry and what its manifest says."""

    version: int
    parent: int | None
    path: Path
    created_at: datetime
    label_space: LabelSpace
    manifest: Manifest


class Registry:
    """All versions of one workspace.

    Args:
        workspace: Where `versions/` is.
        config: Says where the serving directory is, and how much is kept.
        files: How files are changed.
        clock: The time of journal records.
        preflight: Tries a version before it is served.
    """

    def __init__(
        self,
        workspace: Workspace,
        config: Config,
        *,
        files: FileOperations | None = None,
        clock: Clock | None = None,
        preflight: Preflight = check_in_child,
    ) -> None:
        self.workspace = workspace
        self.config = config
        self.files = files or FileOperations()
        self.clock: Clock = clock or SystemClock()
        self.preflight = preflight
        self.store = LocalArtifactStore(workspace.versions, files=self.files)
        self.serving = LocalArtifactStore(workspace.serving(config), files=self.files)

    @cached_property
    def journal(self) -> Journal:
        """What happened to versions, in order."""
        path = self.workspace.versions / "events.jsonl"
        return Journal(path, files=self.files, clock=self.clock)

    @contextlib.contextmanager
    def lock(self, what: str, *, wait_seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Be the only writer while the block runs.

        Raises:
            WorkspaceLocked: When another process is at work for longer than `wait_seconds`.
        """
        with file_lock(self.workspace.versions / ".lock", what=what, wait_seconds=wait_seconds):
            yield

    def register(
        self,
        staged: Path,
        *,
        cycle_id: str,
        parent: int | None,
        facts: Mapping[str, Any],
        finish: Callable[[Path, int], None] | None = None,
    ) -> ModelVersion:
        """Give a finished challenger its number and make it a version.

        The staged folder moves into the registry. A second call for the same cycle, after a kill
        or not, gives the version that is there.

        Args:
            staged: Holds onnx/, checkpoint/, state/ and the papers.
            cycle_id: The cycle that made it.
            parent: The version it was trained from.
            facts: Parts of the manifest: `model`, `golden`, `lineage`, `metrics`, ….
            finish: Called with the folder and its number before the files are hashed, for papers
                that name it. After a kill it is called again, perhaps with another number.
        Raises:
            RegistryError: When a file is missing or is a link.
            StorageError: When the disk is full or may not be written.
        """
        with self.lock("registering a version"):
            self.adopt(self.numbers())
            there = self.find_by_cycle(cycle_id, parent=parent)
            if there is not None:
                return there
            if "model" not in facts or not (staged / "onnx" / "model.onnx").exists():
                raise RegistryError(
                    "The challenger is not complete: it has no "
                    + ("model facts." if "model" not in facts else "onnx/model.onnx."),
                    where=str(staged),
                    hint="Run the update again.",
                )
            # Every folder is in the journal now, or was set aside.
            number = self._newest_registered() + 1
            if finish is not None:
                finish(staged, number)
            # A run that was killed may have left one, of another manifest.
            if (staged / SIGNATURE).exists():
                with storage_border("replace an old signature", staged):
                    self.files.unlink(staged / SIGNATURE)
            write_json_atomic(
                staged / MANIFEST,
                {
                    "format_version": FORMAT_VERSION,
                    "version": number,
                    "cycle": cycle_id,
                    "parent": parent,
                    "created_at": self.clock.now().isoformat(),
                    "contlearn": __version__,
                    **facts,
                    "files": describe_files(staged),
                },
                files=self.files,
            )
            private_key = self.workspace.key(self.config.signing.private_key)
            if private_key is not None:
                signature = sign_manifest((staged / MANIFEST).read_bytes(), private_key)
                write_bytes_atomic(staged / SIGNATURE, signature, files=self.files)
            folder = self.store.publish(staged, str(number))
            self._journal_version(folder, number)
            return self.get(number)

    def get(self, number: int) -> ModelVersion:
        """Read a version's manifest.

        Raises:
            RegistryError: When there is no such version, or its manifest is damaged.
        """
        folder = self.store.folder(str(number))
        if folder is None:
            raise self._unknown(number)
        try:
            manifest = read_manifest(folder / MANIFEST)
            return ModelVersion(
                version=manifest.version,
                parent=manifest.parent,
                path=folder,
                created_at=datetime.fromisoformat(manifest.created_at or ""),
                label_space=LabelSpace(manifest.model.labels),
                manifest=manifest,
            )
        except (StorageError, KeyError, TypeError, ValueError) as error:
            raise RegistryError(
                f"The manifest of version {number} is damaged: {error}",
                where=str(folder / MANIFEST),
                hint="`contlearn verify` says what is damaged; roll back to another version.",
            ) from error

    def require(self, number: int) -> None:
        """Check that a version is there, whatever state it is in.

        Raises:
            RegistryError: When there is no such version.
        """
        if self.store.folder(str(number)) is None and not self._is_no_folder(number):
            raise self._unknown(number)

    def numbers(self) -> tuple[int, ...]:
        """List the versions that are there, ascending."""
        return self.store.numbers()

    def latest(self) -> int | None:
        """Give the newest version; the others are listed only when it was deleted."""
        newest = self._newest_registered()
        following = self._following(newest)
        if following or self.store.folder(str(newest)) is not None:
            return following[-1] if following else newest
        return max(self.numbers(), default=None)

    def find_by_cycle(self, cycle_id: str, *, parent: int | None = None) -> ModelVersion | None:
        """Give the version a cycle made, if it is still there.

        Args:
            cycle_id: The cycle.
            parent: What it trained from, if that is known: its version came later, so that the
                journal is not searched beyond it.
        """
        for record in self.journal.back("register"):
            if record.cycle == cycle_id:
                is_gone = self.store.folder(str(record.version)) is None
                return None if is_gone else self.get(record.version)
            if record.version == parent:
                break
        return None

    def champion(self) -> int | None:
        """Give the version that is served; None before the first promotion."""
        pointer = self.serving.read_pointer()
        return None if pointer is None else pointer.version

    def epoch(self) -> int:
        """Give the number of changes of the champion so far, whichever of the two files is lost.

        Raises:
            RegistryError: When the newest lines of the journal are damaged.
        """
        last = self.last_change()
        epochs = [0 if last is None else last.epoch]
        with contextlib.suppress(StorageError):
            pointer = self.serving.read_pointer()
            epochs.append(0 if pointer is None else pointer.epoch)
        return max(epochs)

    def last_change(self) -> JournalRecord | None:
        """Give the journal's record of the newest promotion or rollback."""
        return next(self.journal.back(*CHANGES), None)

    def changes_back(self) -> Iterator[JournalRecord]:
        """Give the records that rollbacks go back along, the present champion's first.

        A promotion comes to stand above the one before it; a rollback stands where the one it goes
        back to stood. `below` links them, so that a long history is never read as a whole.
        """
        record = self.last_change()
        while record is not None:
            yield record
            record = None if record.below is None else self.journal.get(record.below)

    def former_champions(self, limit: int | None = None) -> tuple[int, ...]:
        """Give the champions that rollbacks go back along, the present one last."""
        numbers = [record.version for record in islice(self.changes_back(), limit)]
        return tuple(reversed(numbers))

    def note(self, event: str, **fields: object) -> None:
        """Write an approval, a hold or a release into the journal: who, when, why."""
        if not re.fullmatch(r"[a-z-]+", event) or event in (*CHANGES, "register", "intent"):
            raise RegistryError(f"{event!r} is not an event that can be noted.", where="journal")
        with self.lock("writing the journal"):
            self.journal.append(event, **fields)

    def verify(self, number: int) -> list[str]:
        """Compare a version's files with its manifest, and the manifest with the journal.

        Returns:
            One sentence a problem, naming the file; nothing when the version is as it was made.
        Raises:
            RegistryError: When there is no such version.
        """
        folder = self.store.folder(str(number))
        if folder is None and self._is_no_folder(number):
            return [_NO_FOLDER]
        if folder is None:
            raise self._unknown(number)
        try:
            manifest = read_manifest(folder / MANIFEST)
            problems = check_files(folder, manifest.files)
        except (RegistryError, StorageError) as error:
            return [f"{MANIFEST}: {error.what}"]
        except (KeyError, TypeError, AttributeError):
            return [f"{MANIFEST} does not describe its files"]
        if manifest.version != number:
            problems.append(f"{MANIFEST} belongs to version {manifest.version}")
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if (
                name in (MANIFEST, SIGNATURE)
                or name in manifest.files
                or (path.is_dir() and not path.is_symlink())
            ):
                continue
            problems.append(f"{name} was added")
        public_key = self.workspace.key(self.config.signing.public_key)
        if public_key is not None:
            problems += signature_problems(folder, public_key)
        record = self.journal.find_last("register", version=number)
        try:
            digest = digest_file(folder / MANIFEST)
        except OSError:
            problems.append(f"{MANIFEST} is a link")
        else:
            if record is None:
                problems.append(f"{MANIFEST} is not in the journal")
            elif record.manifest != digest:
                problems.append(f"{MANIFEST} was changed: the journal has another SHA-256")
        return problems

    def leased(self) -> set[int]:
        """Give the versions that running servers hold."""
        return leased_versions(self.workspace.state / "leases")

    def adopt(self, numbers: Iterable[int] | None = None) -> list[str]:
        """Bring journal and folders together again after a kill. The caller holds the lock.

        Args:
            numbers: The versions that are there, for a caller that has listed them. Without, those
                that follow the newest of the journal are looked at: a kill leaves one at most.
        Returns:
            What was done, in words.
        """
        actions = []
        repaired = self.journal.repair()
        if repaired:
            actions.append(repaired)
        newest = self._newest_registered()
        for number in self._following(newest) if numbers is None else numbers:
            if number <= newest:
                continue
            folder = self.workspace.versions / str(number)
            try:
                if self._is_no_folder(number):
                    raise self._unknown(number)
                manifest = read_manifest(folder / MANIFEST)
                problems = check_files(folder, manifest.files)
            except (RegistryError, StorageError) as error:
                problems = [error.what]
            if problems:
                self.store.set_aside(str(number))
                actions.append(f"version {number} was set aside: {'; '.join(problems)}")
                continue
            make_read_only(folder, files=self.files)
            self._journal_version(folder, number)
            actions.append(f"version {number} was entered in the journal")
        return actions

    def _journal_version(self, folder: Path, number: int) -> None:
        manifest = read_manifest(folder / MANIFEST)
        self.journal.append(
            "register",
            version=number,
            parent=manifest.parent,
            manifest=digest_file(folder / MANIFEST),
            cycle=manifest.cycle,
        )

    def _newest_registered(self) -> int:
        record = self.journal.find_last("register")
        return 0 if record is None else record.version

    def _following(self, newest: int) -> tuple[int, ...]:
        """Give the versions that come right after a number, without listing the others."""
        return tuple(takewhile(lambda n: self.store.folder(str(n)) is not None, count(newest + 1)))

    def _is_no_folder(self, number: int) -> bool:
        """Say whether something else stands where a version's folder should: a link, or a file."""
        path = self.store.root / str(number)
        return path.is_symlink() or path.is_file()

    def _unknown(self, number: int) -> RegistryError:
        if self._is_no_folder(number):
            return RegistryError(
                f"Version {number}: {_NO_FOLDER}.",
                where=str(self.store.root / str(number)),
                hint="Put the folder itself in its place, or take it away; another version can be "
                "served meanwhile (`contlearn history`).",
            )
        numbers = self.numbers()
        shown = ", ".join(map(str, numbers[-10:])) or "none"
        gone = self.journal.find_last("delete", version=number)
        return RegistryError(
            f"There is no version {number}."
            if gone is None
            else f"Version {number} was deleted on {gone.at[:10]}: {gone.reason}.",
            where=str(self.workspace.versions),
            hint=f"Versions there are: {shown}" + (" (the newest ten)." if numbers[10:] else "."),
        )
