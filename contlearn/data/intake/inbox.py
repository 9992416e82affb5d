"""The inbox: which files have come to rest, and taking them out of it by one rename.

A claim is a folder of its own below state/claimed with one file in it, so that two files of one
name never meet and a killed run leaves nothing that the next one cannot take up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import uuid
from pathlib import Path
from typing import Final, TypeAlias

from contlearn.config import Config
from contlearn.interfaces import Clock
from contlearn.workspace import FileOperations, Workspace, fitting, move, storage_border

__all__ = [
    "FileState",
    "claim_rested",
    "count_try",
    "file_state",
    "inbox_files",
    "is_open_for_writing",
    "list_claims",
    "may_read",
    "release_claim",
    "unreadable",
    "visible",
]

# Kind, size and time of change.
FileState: TypeAlias = tuple[int, int, int]
READY: Final = ".ready"
TRIES: Final = ".tries"
_IGNORED: Final = (".part", ".tmp", READY)
# A scan waits this long at most for a file that was just written.
_MAX_WAIT_SECONDS: Final = 5.0


def visible(folder: Path) -> list[Path]:
    """Give the entries that are meant for us, by name."""
    with storage_border("read the inbox", folder), contextlib.suppress(FileNotFoundError):
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and not path.name.endswith(_IGNORED)
        )
    return []


def inbox_files(workspace: Workspace) -> list[Path]:
    """Give what waits in the inbox or was claimed, and can be taken in."""
    waiting = [path for path in visible(workspace.inbox) if not _is_unreadable(path)]
    return [*waiting, *visible(workspace.claimed)]


def unreadable(folder: Path) -> list[Path]:
    """Give the files that this user may not read; they stay where they are."""
    return [path for path in visible(folder) if _is_unreadable(path)]


def may_read(path: Path) -> bool:
    """Say whether this process may read a file."""
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.R_OK, effective_ids=effective)


def _is_unreadable(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not may_read(path)


def is_open_for_writing(path: Path) -> bool:
    """Say whether some process holds a file open for writing, as far as the system tells.

    Source: Linux fcntl(2): a read lease is refused with EAGAIN while the file is open for writing.
    """
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Who opens the file for writing meanwhile has a signal sent to us: one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def file_state(path: Path) -> FileState | None:
    """Give what changes when a file is written: its kind, size and time; a folder's newest."""
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return found.st_mode, found.st_size, found.st_mtime_ns
        size, newest = 0, found.st_mtime_ns
        for folder, _, names in os.walk(path):
            for name in names:
                inner = Path(folder, name).lstat()
                size, newest = size + inner.st_size, max(newest, inner.st_mtime_ns)
    except FileNotFoundError:
        return None
    return found.st_mode, size, newest


def claim_rested(workspace: Workspace, config: Config, clock: Clock, files: FileOperations) -> int:
    """Claim every file of the inbox that has come to rest, or that has NAME.ready beside it.

    Returns:
        How many are still being written.
    """
    rest = config.data.rest_seconds
    waiting: list[tuple[Path, FileState]] = []
    for path in visible(workspace.inbox):
        state = file_state(path)
        if state is None or _is_unreadable(path):
            continue
        age = clock.now().timestamp() - state[2] / 1e9
        if not (
            (_marker(path) or (age >= rest and not is_open_for_writing(path)))
            and _claim(workspace, path, files)
        ):
            waiting.append((path, state))
    if not waiting:
        return 0
    # Two looks, so that a clock that differs from the file's does not matter.
    clock.sleep(min(rest, _MAX_WAIT_SECONDS))
    left = 0
    for path, state in waiting:
        if (
            rest <= _MAX_WAIT_SECONDS
            and file_state(path) == state
            and not is_open_for_writing(path)
            and _claim(workspace, path, files)
        ):
            continue
        left += path.exists()
    return left


def _marker(path: Path) -> Path | None:
    """Give the file beside a file that says it is whole; a name at its full length has none."""
    with contextlib.suppress(OSError):
        marker = path.with_name(path.name + READY)
        if marker.exists():
            return marker
    return None


def _claim(workspace: Workspace, path: Path, files: FileOperations) -> bool:
    """Move one entry out of the inbox; say whether it is out, by us or one who was faster."""
    folder = workspace.claimed / uuid.uuid4().hex[:12]
    is_out = True
    with storage_border(f"claim {path.name}", path):
        files.make_folder(folder)
        with contextlib.suppress(FileNotFoundError):
            # The marker first: one left behind would let a later file be taken too early.
            if marker := _marker(path):
                move(marker, folder / READY, files=files)
            is_out = move(path, folder / path.name, files=files)
        files.fsync_folder(folder)
        files.fsync_folder(workspace.inbox)
    return is_out


def list_claims(workspace: Workspace) -> list[Path]:
    """Give the claimed files, those of killed runs included; empty claims are removed.

    Those that were tried least come first: a file that takes the process down each time stands in
    the way of no other.
    """
    claims = []
    with storage_border("read the claimed files", workspace.claimed):
        for folder in sorted(workspace.claimed.iterdir()):
            if not folder.is_dir():
                continue
            # What begins with a dot is ours: nothing of that name is taken out of the inbox.
            inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
            if inside:
                claims.extend(inside)
            else:
                _remove_claim_folder(folder)
    return sorted(claims, key=lambda path: (_tries(path), path.name, path.parent.name))


def release_claim(workspace: Workspace, claim: Path, files: FileOperations) -> None:
    """Take a claim away whose content is in the archive; what is no file is kept as it is."""
    with storage_border(f"archive {claim.name}", claim):
        if stat.S_ISREG(claim.lstat().st_mode):
            files.unlink(claim)
        else:
            folder = workspace.archive / "refused"
            files.make_folder(folder)
            move(claim, folder / f"{claim.parent.name}-{fitting(claim.name, 200)}", files=files)
            files.fsync_folder(folder)
        _remove_claim_folder(claim.parent)


def count_try(claim: Path, files: FileOperations) -> int:
    """Count one more try to read a claim, and give how many there were before."""
    with storage_border(f"take in {claim.name}", claim):
        before = _tries(claim)
        files.append(claim.parent / TRIES, b".")
    return before


def _tries(claim: Path) -> int:
    tries = claim.parent / TRIES
    return tries.stat().st_size if tries.exists() else 0


def _remove_claim_folder(folder: Path) -> None:
    for path in folder.glob(".*"):
        if path.is_dir() and not path.is_symlink():  # copied from another mount when it was killed
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    # Not empty: a file was put there meanwhile, and is taken up by the next scan.
    with contextlib.suppress(OSError):
        folder.rmdir()
