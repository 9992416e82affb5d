"""What is served, compared with what was promoted."""

from __future__ import annotations

from contlearn.errors import RegistryError, StorageError
from contlearn.inference.manifest import check_files, digest_file, served_files
from contlearn.inference.signature import signature_problems
from contlearn.papers.manifest import MANIFEST, read_manifest
from contlearn.papers.pointer import POINTER
from contlearn.registry.versions import Registry

__all__ = ["copy_problems", "verify_serving"]


def verify_serving(registry: Registry) -> list[str]:
    """Check what is served: the pointer, its manifest, every file.

    Returns:
        One sentence a problem; nothing when all is well, or nothing was ever promoted.
    """
    try:
        pointer = registry.serving.read_pointer()
    except StorageError as error:
        return [error.what]
    if pointer is not None:
        return copy_problems(registry, pointer.version, pointer.sha256)
    last = registry.last_change()
    if last is None:
        return []
    problem = (
        f"{POINTER} is missing from {registry.serving.root}, and version {last.version} was "
        "promoted: the next `contlearn update`, `promote` or `rollback` writes it again"
    )
    return [problem]


def copy_problems(registry: Registry, number: int, digest: str | None) -> list[str]:
    """Compare the copy that is served with the version it was made from.

    Args:
        registry: Where the version is.
        number: The version.
        digest: SHA-256 of its manifest as promoted; that of the registry's if left out.
    Returns:
        One sentence a problem, naming the file.
    """
    folder = registry.serving.root / str(number)
    source = registry.workspace.versions / str(number) / MANIFEST
    public_key = registry.workspace.key(registry.config.signing.public_key)
    if folder.is_symlink():
        return [f"{number} is a link, not a folder of its own"]
    try:
        found = digest_file(folder / MANIFEST)
        expected = digest or digest_file(source)
        if found != expected:
            return [f"{MANIFEST} was changed: its SHA-256 is not the one promoted"]
        problems = check_files(folder, served_files(read_manifest(folder / MANIFEST)))
    except OSError as error:
        return [f"{number}/{MANIFEST} cannot be read: {error.strerror}"]
    except (RegistryError, StorageError) as error:
        return [error.what]
    return problems + (signature_problems(folder, public_key) if public_key is not None else [])
