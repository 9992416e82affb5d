"""Whether the files of a version are still as its manifest says.

Standard library only: the registry, `status` and the daemon read manifests too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.errors import RegistryError
from contlearn.papers.manifest import MANIFEST, Manifest

__all__ = [
    "FALLBACK_FILE",
    "MODEL_FILE",
    "ONNX_FOLDER",
    "SIGNATURE",
    "check_files",
    "describe_files",
    "digest_file",
    "link_problem",
    "served_files",
]

ONNX_FOLDER: Final = "onnx"
MODEL_FILE: Final = "model.onnx"
# The fp32 twin of an int8 model, for processors whose 8-bit arithmetic differs. Its name does not
# end in .onnx, because optimum searches folders for *.onnx and must find exactly one.
FALLBACK_FILE: Final = "model.fp32"
# Made over the manifest, so the manifest cannot hold its hash.
SIGNATURE: Final = "model.sig"


def digest_file(path: Path) -> str:
    """Hash a file, never following a link.

    Returns:
        The SHA-256 in hexadecimal.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def link_problem(path: Path) -> str | None:
    """Say why a file is not plainly a file of its own; None when it is.

    A link lets somebody outside the folder change what is served, and onnxruntime refuses linked
    model files anyway.
    """
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return "is a link"
    if not stat.S_ISREG(facts.st_mode):
        return "is not a plain file"
    if facts.st_nlink > 1:
        return f"is hard-linked {facts.st_nlink} times"
    return None


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Give size and SHA-256 of every file below a folder, but for manifest and signature.

    Raises:
        RegistryError: When a file is a link.
    """
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in (MANIFEST, SIGNATURE) or (path.is_dir() and not path.is_symlink()):
            continue
        problem = link_problem(path)
        if problem is not None:
            raise RegistryError(
                f"The file {name} {problem}.",
                where=str(path),
                hint="Versions hold plain files only: copy it in place of the link.",
            )
        described[name] = {"size": path.stat().st_size, "sha256": digest_file(path)}
    return described


def check_files(
    folder: Path, files: Mapping[str, Mapping[str, Any]], *, digests: bool = True
) -> list[str]:
    """Compare the files of a folder with what was written down about them.

    Args:
        folder: Where the files are.
        files: Size and SHA-256 of each, by relative name.
        digests: False looks at presence, kind and size only.
    Returns:
        One sentence a problem, naming the file; nothing when all is well.
    """
    problems = []
    for name, facts in files.items():
        path = folder / name
        try:
            problem = link_problem(path)
            size = path.lstat().st_size
            if problem is None and size != facts["size"]:
                change = "truncated" if size < facts["size"] else "longer than it was"
                problem = f"is {change}: {size} bytes, not {facts['size']}"
            elif problem is None and digests and digest_file(path) != facts["sha256"]:
                problem = "was changed: its SHA-256 is not the one in the manifest"
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem is not None:
            problems.append(f"{name} {problem}")
    return problems


def served_files(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    """Give the files of the serving copy, by their names there: those below onnx/."""
    prefix = ONNX_FOLDER + "/"
    return {
        name.removeprefix(prefix): facts
        for name, facts in manifest.files.items()
        if name.startswith(prefix)
    }
