"""The archive: a copy of every file that was taken in, by the hash of its content."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from pathlib import Path
from typing import Final

from contlearn.workspace import FileOperations, Workspace, narrow, new_private, storage_border

__all__ = [
    "archive_copy",
    "archived",
    "content_hash",
    "is_redacted",
    "prefix_hash",
    "redacted_name",
    "redacted_path",
    "suffixes_of",
]

_CHUNK: Final = 1 << 20


def suffixes_of(name: str) -> str:
    """Give the endings of a name that tell its format, in lower case.

    Example:
        >>> suffixes_of("March 2025.JSONL.gz"), suffixes_of("notes")
        ('.jsonl.gz', '')
    """
    found = re.search(r"((?:\.[A-Za-z][A-Za-z0-9]{0,7}){1,2})$", name)
    return found[1].lower() if found else ""


def content_hash(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with storage_border(f"read {path.name}", path), path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def prefix_hash(path: Path, size_bytes: int) -> tuple[str, bytes]:
    """Hash the beginning of a file, and give its last byte."""
    digest, last, left = hashlib.sha256(), b"", size_bytes
    with storage_border(f"read {path.name}", path), path.open("rb") as file:
        while left and (data := file.read(min(_CHUNK, left))):
            digest.update(data)
            last, left = data[-1:], left - len(data)
    return digest.hexdigest(), last


def archived(workspace: Workspace, digest: str, name: str) -> Path | None:
    """Give the archive's copy of a content that came under a name; None where it is redacted."""
    path = workspace.archive / digest[:2] / f"{digest}{suffixes_of(name)}"
    return path if path.is_file() else None


def redacted_name(digest: str) -> str:
    """Name the copy of a content that lacks what was forgotten of it."""
    return f"{digest}.redacted.jsonl"


def redacted_path(workspace: Workspace, digest: str) -> Path:
    """Give the place of the copy of a content that lacks what was forgotten of it."""
    return workspace.archive / digest[:2] / redacted_name(digest)


def is_redacted(workspace: Workspace, digest: str) -> bool:
    """Say whether the archive keeps a content without what was forgotten of it."""
    return redacted_path(workspace, digest).exists()


def archive_copy(workspace: Workspace, source: Path, files: FileOperations) -> tuple[str, Path]:
    """Copy a file into the archive, under its content's hash and its name's endings.

    What is parsed afterwards is the copy: nobody can change it meanwhile, and nobody may read it
    who may not read the file.

    Returns:
        The hash and the copy.
    """
    temporary = workspace.archive / f".{uuid.uuid4().hex}.tmp"
    digest = hashlib.sha256()
    with storage_border(f"archive {source.name}", workspace.archive):
        try:
            default = new_private(temporary)
            with source.open("rb") as reader, temporary.open("wb") as writer:
                mode = stat.S_IMODE(os.fstat(reader.fileno()).st_mode) & default
                while data := reader.read(_CHUNK):
                    digest.update(data)
                    writer.write(data)
                writer.flush()
                os.fsync(writer.fileno())
            name = digest.hexdigest()
            folder = workspace.archive / name[:2]
            target = folder / f"{name}{suffixes_of(source.name)}"
            if not target.exists():
                files.make_folder(folder)
                files.set_mode(temporary, mode & 0o444 | 0o400)
                files.rename(temporary, target)
                files.fsync_folder(folder)
                files.fsync_folder(workspace.archive)
            else:
                # The same content came before; it is shut to whom this file is shut.
                narrow(target, mode, files=files)
        finally:
            temporary.unlink(missing_ok=True)
    return name, target
