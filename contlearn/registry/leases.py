"""Who uses which version right now, so that retention leaves it alone.

A lease is a file that its holder keeps locked; the lock goes with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from contlearn.workspace import storage_border

__all__ = ["hold_version", "leased_versions"]


@contextlib.contextmanager
def hold_version(folder: Path, version: int) -> Iterator[None]:
    """Keep a version from being deleted while the block runs.

    Args:
        folder: `state/leases` of the workspace.
        version: The version in use.
    """
    path = folder / f"version-{version}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
    with storage_border("hold a version", folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Locked before it has its name, so that nobody finds it unlocked and takes it for stale.
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            hidden.rename(path)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def leased_versions(folder: Path) -> set[int]:
    """Give the versions somebody holds; leases of dead processes are removed."""
    held: set[int] = set()
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return held
    for entry in entries:
        match = re.fullmatch(r"version-(\d+)-.*\.lock", entry.name)
        if match is None:
            continue
        try:
            descriptor = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(entry.path).unlink(missing_ok=True)
        except BlockingIOError:
            held.add(int(match[1]))
        finally:
            os.close(descriptor)
    return held
