"""Folders that appear complete or not at all, and one pointer, in a folder of this machine."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path
from typing import Final

from contlearn.errors import RegistryError
from contlearn.papers.pointer import POINTER, Pointer, read_pointer
from contlearn.workspace import (
    FileOperations,
    publish_folder,
    storage_border,
    write_bytes_atomic,
)

__all__ = ["LocalArtifactStore"]

# Work in progress and leavings; readers look at numeric names only.
_STAGED: Final = ".staged-"
_TRASH: Final = ".trash-"
_DAMAGED: Final = ".damaged-"
# Damaged folders kept for whoever wants to look.
_DAMAGED_KEPT: Final = 3


class LocalArtifactStore:
    """Where version folders and the champion pointer live.

    Two operations carry every promise: a folder appears complete or not at all, and the pointer
    changes only from the value the writer read.

    Args:
        root: The folder; made when first written to.
        files: How files are changed.
    """

    def __init__(self, root: Path, *, files: FileOperations) -> None:
        self.root = root
        self._files = files

    def staging(self, name: str) -> Path:
        """Name a folder of the same file system, for building `name` in."""
        return self.root / f"{_STAGED}{name}-{uuid.uuid4().hex[:8]}"

    def publish(self, staged: Path, name: str) -> Path:
        """Flush a staged folder, rename it into place, and make it read-only.

        Raises:
            RegistryError: When `name` is there already.
            StorageError: When the disk is full or may not be written.
        """
        target = self.root / name
        with storage_border(f"make {self.root}", self.root):
            self._files.make_folder(self.root)
        try:
            try:
                publish_folder(staged, target, files=self._files)
            except OSError as error:
                # Two mounts can be one device, so that only the attempt tells.
                if error.errno != errno.EXDEV:
                    raise
                publish_folder(self._bring(staged, name), target, files=self._files)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise RegistryError(
                    f"{name} is there already.",
                    where=str(target),
                    hint="Versions are never overwritten; run the command again.",
                ) from error
            raise
        return target

    def folder(self, name: str) -> Path | None:
        """Give the path of a published folder, or None."""
        path = self.root / name
        return path if path.is_dir() and not path.is_symlink() else None

    def numbers(self) -> tuple[int, ...]:
        """List the published folders, ascending. Reads one directory, whatever is in it."""
        try:
            found = os.listdir(self.root)  # noqa: PTH208  # names only, 10 000 of them: no Path each
        except FileNotFoundError:
            return ()
        # isdigit alone would take "²" too.
        numbers = [name for name in found if name.isdigit() and name.isascii() and name[0] != "0"]
        return tuple(sorted(map(int, numbers)))

    def names(self) -> tuple[str, ...]:
        """List the published folders by name, in the order of their numbers."""
        return tuple(map(str, self.numbers()))

    def remove(self, name: str) -> None:
        """Take a folder away: one rename hides it, then it is emptied."""
        path = self.root / name
        if not path.exists():
            return
        trash = self.root / f"{_TRASH}{name}-{uuid.uuid4().hex[:8]}"
        with storage_border(f"remove {name}", path):
            # A folder that changes its parent's entry must be writable for its owner.
            self._files.set_mode(path, 0o755)
            self._files.rename(path, trash)
            self._files.fsync_folder(self.root)
            self._files.remove_tree(trash)

    def set_aside(self, name: str) -> Path:
        """Rename a damaged folder out of the way; it is kept for whoever wants to look."""
        path = self.root / name
        aside = self.root / f"{_DAMAGED}{name}-{uuid.uuid4().hex[:8]}"
        with storage_border(f"set {name} aside", path):
            if not path.is_symlink():
                self._files.set_mode(path, 0o755)
            self._files.rename(path, aside)
            self._files.fsync_folder(self.root)
        return aside

    def clean(self) -> list[str]:
        """Remove what a killed writer left: staged folders, trash, temporary files.

        Returns:
            The names removed.
        """
        try:
            found = os.listdir(self.root)  # noqa: PTH208  # see `numbers`
        except FileNotFoundError:
            return []
        removed = []
        paths = [self.root / name for name in sorted(found) if name.startswith(".")]
        damaged = [path for path in paths if path.name.startswith(_DAMAGED)]
        damaged.sort(key=lambda path: path.lstat().st_ctime_ns)
        old = {path.name for path in damaged[:-_DAMAGED_KEPT]}
        with storage_border("clean up", self.root):
            for path in paths:
                unwanted = path.name.startswith((_STAGED, _TRASH)) or path.name in old
                if unwanted and path.is_dir() and not path.is_symlink():
                    self._files.remove_tree(path)
                elif path.name.endswith(".tmp") or (path.name in old):
                    self._files.unlink(path)
                else:
                    continue
                removed.append(path.name)
        return removed

    def read_pointer(self) -> Pointer | None:
        """Read the champion pointer; None before the first promotion.

        Raises:
            StorageError: When it is damaged.
        """
        return read_pointer(self.root)

    def compare_and_set_pointer(self, expected: Pointer | None, new: Pointer) -> None:
        """Replace the pointer if it still is `expected`. The caller holds the registry's lock.

        Raises:
            RegistryError: When another writer was faster.
            StorageError: When the disk is full or may not be written.
        """
        found = self.read_pointer()
        if found != expected:
            now = found.version if found else None
            raise RegistryError(
                f"Another process made version {now} the champion meanwhile.",
                where=str(self.root / POINTER),
                hint="Look at `contlearn status`, then decide again.",
            )
        path = self.root / POINTER
        write_bytes_atomic(path, json.dumps(new.to_json()).encode() + b"\n", files=self._files)

    def _bring(self, staged: Path, name: str) -> Path:
        """Copy a staged folder from another mount."""
        target = self.staging(name)
        with storage_border(f"copy {name}", target):
            for path in [staged, *sorted(staged.rglob("*"))]:
                place = target / path.relative_to(staged)
                if path.is_dir():
                    self._files.make_folder(place)
                else:
                    self._files.copy(path, place)
        return target
