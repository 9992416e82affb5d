"""The layout of a workspace on disk, and the file operations that survive a kill."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.config import CONFIG_FILE, Config
from contlearn.errors import (
    ConfigError,
    ContlearnError,
    StorageError,
    UsageError,
    WorkspaceError,
    WorkspaceLocked,
)
from contlearn.processes.facts import command_of, file_locks, is_stopped

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = [
    "READ_ONLY",
    "FileOperations",
    "SystemClock",
    "Workspace",
    "damaged",
    "file_lock",
    "fitting",
    "foreign_name",
    "make_read_only",
    "mode_of",
    "move",
    "narrow",
    "narrowest",
    "new_private",
    "output_border",
    "plain",
    "publish_folder",
    "read_json",
    "storage_border",
    "write_bytes_atomic",
    "write_json_atomic",
]


# What a write on a read-only mount, or in another user's folder, ends with.
READ_ONLY: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Give the present moment in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give seconds that never run backwards."""
        import time

        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        import time

        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where everything of one model lies. Making one touches nothing."""

    root: Path

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.root / CONFIG_FILE

    @property
    def inbox(self) -> Path:
        """Where people and programs drop files."""
        return self.root / "inbox"

    @property
    def state(self) -> Path:
        """Everything contlearn keeps for itself."""
        return self.root / "state"

    @property
    def records(self) -> Path:
        """One Parquet segment for each accepted file."""
        return self.state / "records"

    @property
    def archive(self) -> Path:
        """Every claimed file, by content hash."""
        return self.state / "archive"

    @property
    def claimed(self) -> Path:
        """Files taken from the inbox that are not archived yet."""
        return self.state / "claimed"

    @property
    def quarantine(self) -> Path:
        """One JSONL file of refused rows for each file that had some."""
        return self.state / "quarantine"

    @property
    def predictions(self) -> Path:
        """The prediction log of the server."""
        return self.state / "predictions"

    @property
    def outbox(self) -> Path:
        """Notifications that wait, and those that went out."""
        return self.state / "outbox"

    @property
    def cycles(self) -> Path:
        """The work folder and log of each cycle."""
        return self.state / "cycles"

    def text_mode(self) -> int:
        """Give the rights that what shows texts of many records may have."""
        return narrowest((*self.records.glob("*.parquet"), *self.quarantine.glob("*.jsonl")))

    @property
    def reports(self) -> Path:
        """One page a version, with texts; `data forget` takes forgotten ones out."""
        return self.root / "reports"

    @property
    def evaluations(self) -> Path:
        """Remembered predictions of versions on unchanged held-out sets."""
        return self.state / "evaluations"

    @property
    def versions(self) -> Path:
        """The registry."""
        return self.root / "versions"

    def serving(self, config: Config) -> Path:
        """The serving directory of the model: `<serving.path>/<model.name>`."""
        return (self.root / config.serving.path / config.model.name).absolute()

    def own_folders(self, config: Config) -> tuple[Path, ...]:
        """Give the folders that only contlearn writes to; what a user asks for lands elsewhere."""
        return (self.state, self.versions, self.root / config.serving.path)

    def key(self, path: str) -> Path | None:
        """A key that the configuration names, relative paths taken from the workspace."""
        return (self.root / path).absolute() if path else None

    def named(self, path: Path) -> str:
        """Name a path so that it holds in a copy of the workspace too: relative where it is inside.

        What stands outside is the user's own, and named as it is.
        """
        whole = path.absolute()
        inside = whole.is_relative_to(self.root.absolute())
        return str(whole.relative_to(self.root.absolute()) if inside else whole)

    def without_place(self, text: str) -> str:
        """Take this workspace's own place out of a message that is kept in it."""
        return text.replace(f"{self.root.absolute()}{os.sep}", "")

    def catalog_url(self, config: Config) -> sa.URL:
        """The catalog's SQLAlchemy URL, relative SQLite paths taken from the workspace.

        It is made of parts: in a string, `%`, `?` and `#` of a folder's name would mean something
        else.

        Raises:
            ConfigError: When it cannot be read, or names no file that every process finds again.
        """
        import sqlalchemy as sa

        where = "storage.catalog in contlearn.toml"
        try:
            url = sa.engine.make_url(config.storage.catalog)
        except sa.exc.ArgumentError as error:
            raise ConfigError(
                "The URL of the catalog cannot be read.",
                where=where,
                hint="For example sqlite:///state/catalog.sqlite, or "
                "postgresql+psycopg://user@host/database.",
            ) from error
        if url.get_backend_name() != "sqlite":
            return url
        path = url.database or ""
        if path in ("", ":memory:") or path.startswith("file:") or {"mode", "uri"} & set(url.query):
            raise ConfigError(
                f"The catalog {str(url)!r} is no file that every process of contlearn finds again.",
                where=where,
                hint="Name a file, for example sqlite:///state/catalog.sqlite. A % in its name is "
                "written %25, a ? %3F.",
            )
        return url.set(database=str((self.root / path).absolute()))

    def require(self) -> Workspace:
        """Check that this is a workspace.

        Raises:
            WorkspaceError: When contlearn.toml is not there.
        """
        if not self.config_file.is_file():
            raise WorkspaceError(
                f"There is no {CONFIG_FILE} in {self.root.absolute()}.",
                where=str(self.config_file),
                hint="Run `contlearn init DIR`, or name a workspace with --workspace DIR.",
            )
        return self

    def make_folders(self) -> None:
        """Create the folders that are missing."""
        with storage_border("create the folders of the workspace", self.root):
            for folder in (
                self.inbox,
                self.records,
                self.archive,
                self.claimed,
                self.quarantine,
                self.predictions,
                self.cycles,
                self.evaluations,
                self.versions,
            ):
                folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def storage_border(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors into one that says what to do, with the cause kept."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or error.errno == errno.EDQUOT:
            raise StorageError(
                f"The disk is full: could not {action}.",
                where=str(error.filename or path),
                hint="Free some space and run the same command again; nothing was lost.",
            ) from error
        if error.errno in READ_ONLY:
            raise StorageError(
                f"No permission to {action}: {error.strerror}.",
                where=str(error.filename or path),
                hint="Give this user the right to do so there, then run the same command again.",
            ) from error
        if error.errno == errno.EIO:
            raise StorageError(
                f"The disk reported an error: could not {action}.",
                where=str(error.filename or path),
                hint="Check the disk, then run the same command again.",
            ) from error
        raise
    except Exception as error:
        # Libraries in Rust (safetensors, tokenizers) have errors of their own for the same.
        if f"(os error {errno.ENOSPC})" not in str(error) or isinstance(error, ContlearnError):
            raise
        raise StorageError(
            f"The disk is full: could not {action}.",
            where=str(path),
            hint="Free some space and run the same command again; nothing was lost.",
        ) from error


# What the system says of a path where nothing of this kind can be.
_NO_SUCH_PLACE: Final = frozenset(
    (
        errno.EEXIST,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
    )
)


@contextlib.contextmanager
def output_border(path: Path, own: Iterable[Path] = ()) -> Iterator[None]:
    """Tell the user of a path that was asked for and cannot be written to, or must not be.

    Args:
        path: Of a file or a folder that the user named.
        own: Folders that are contlearn's alone.
    Raises:
        UsageError: When it lies in one of them, or there can be nothing of this name.
    """
    for folder in own:
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise UsageError(
                f"The folder {folder.name} is contlearn's own: nothing else is written there.",
                where=str(path),
                hint="Name a path outside it.",
            )
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SUCH_PLACE:
            raise
        raise UsageError(
            f"Nothing can be written there: {error.strerror}.",
            where=str(path),
            hint="Name a path in a folder that is there, and that this user may write to.",
        ) from error


class FileOperations:
    """The operations that change files, one method each, so that a test can fail any of them."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and flush it to the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def append(self, path: Path, data: bytes) -> None:
        """Append in one write and flush it to the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file's bytes (never a link) and flush them to the disk."""
        with source.open("rb") as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())

    def fsync_file(self, path: Path) -> None:
        """Flush a file that somebody else wrote."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fsync_folder(self, folder: Path) -> None:
        """Flush a folder's entries to the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing a file; a folder that is not empty is never replaced."""
        os.rename(source, target)

    def symlink(self, target: str, link: Path) -> None:
        """Make a link to a folder."""
        os.symlink(target, link)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def set_mode(self, path: Path, mode: int) -> None:
        """Set permissions."""
        path.chmod(mode)

    def unlink(self, path: Path) -> None:
        """Remove a file or a link; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and what is in it, read-only parts included."""
        if not path.exists():
            return
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o755)
        shutil.rmtree(path)


_FILES = FileOperations()


def foreign_name(path: Path) -> str:
    """Name a file for a library that takes names as UTF-8, whatever the locale of this process.

    In a C locale Python keeps bytes beyond ASCII as surrogates, which such a library refuses.
    """
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def fitting(name: str, size_bytes: int) -> str:
    """Give the end of a name that takes at most so many bytes; 255 are what file systems allow.

    Example:
        >>> fitting("naïve.csv", 7), fitting("naïve.csv", 8)
        ('ve.csv', 'ïve.csv')
    """
    end = os.fsencode(name)[-size_bytes:]
    while end and end[0] & 0xC0 == 0x80:  # never the second half of a letter
        end = end[1:]
    return os.fsdecode(end)


def move(source: Path, target: Path, *, files: FileOperations = _FILES) -> bool:
    """Rename; onto another mount, copy, flush, rename the copy, and only then remove the source.

    A kill in between leaves both, and beside the target perhaps a file named `.….part`.

    Returns:
        False when the source changed while it was copied: it is as it was, and nothing was moved.
    """
    try:
        files.rename(source, target)
    except OSError as error:
        # Two mounts can be one device, so that only the attempt tells.
        if error.errno != errno.EXDEV:
            raise
        return _move_across(source, target, files)
    return True


def _move_across(source: Path, target: Path, files: FileOperations) -> bool:
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        before = source.lstat()
        _copy_whole(source, part, files)
        after = source.lstat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return False
        files.rename(part, target)
        files.fsync_folder(target.parent)
        try:
            _remove(source, files)
        except BaseException:
            _remove(target, files)  # a source that stays would be moved again and again
            raise
    finally:
        _remove(part, files)
    return True


def _copy_whole(source: Path, target: Path, files: FileOperations) -> None:
    """Copy a file, folder, link or pipe as what it is, open to nobody who may not read it."""
    found = source.lstat()
    if stat.S_ISREG(found.st_mode):
        default = new_private(target)
        files.copy(source, target)
        files.set_mode(target, stat.S_IMODE(found.st_mode) & default)
    elif stat.S_ISDIR(found.st_mode):
        files.make_folder(target)
        for path in sorted(source.iterdir()):
            _copy_whole(path, target / path.name, files)
        files.fsync_folder(target)
    elif stat.S_ISLNK(found.st_mode):
        files.symlink(str(source.readlink()), target)
    else:
        os.mknod(target, found.st_mode, found.st_rdev)


def _remove(path: Path, files: FileOperations) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    else:
        files.unlink(path)


def mode_of(path: Path) -> int:
    """Give who may read and write a file."""
    return stat.S_IMODE(path.stat().st_mode)


def narrowest(paths: Iterable[Path]) -> int:
    """Give what everyone may do with all of these files; those that are gone do not count.

    What holds texts of several files is no wider than the narrowest of them.
    """
    mode = 0o777
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            mode &= mode_of(path)
    return mode


def narrow(path: Path, mode: int, *, files: FileOperations = _FILES) -> None:
    """Take from others what they may not do by `mode`; its owner keeps what there is."""
    before = mode_of(path)
    after = before & (mode | 0o700)
    if after != before:
        files.set_mode(path, after)


def write_bytes_atomic(
    path: Path, data: bytes, *, files: FileOperations = _FILES, mode: int | None = None
) -> None:
    """Replace a file's content so that a reader sees the old bytes or the new ones, whole.

    Args:
        path: The file.
        data: Its new content.
        files: How files are changed.
        mode: Nobody else gets more rights than this gives, at any moment; the process's own
            default if left out.
    """
    temporary = path.with_name(f".{fitting(path.name, 200)}.{uuid.uuid4().hex[:8]}.tmp")
    with storage_border(f"write {path.name}", path):
        try:
            if mode is not None:
                default = new_private(temporary)
                files.write(temporary, data)
                files.set_mode(temporary, default & (mode | 0o600))
            else:
                files.write(temporary, data)
            files.rename(temporary, path)
            files.fsync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def new_private(path: Path) -> int:
    """Make an empty file that nobody else may open; give the mode that it would have had."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    mode = mode_of(path)
    path.chmod(0o600)
    return mode


def write_json_atomic(
    path: Path, value: Mapping[str, Any] | list[Any], *, files: FileOperations = _FILES
) -> None:
    """Write JSON atomically, keys in the order given."""
    data = json.dumps(value, ensure_ascii=False, indent=1, default=plain).encode() + b"\n"
    write_bytes_atomic(path, data, files=files)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that contlearn wrote.

    Raises:
        StorageError: When the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StorageError(f"{path.name} is missing.", where=str(path)) from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise damaged(path, "it does not hold a JSON object")
    return value


def damaged(path: Path, why: str) -> StorageError:
    """Make the error of a file that contlearn wrote and cannot read any more."""
    return StorageError(
        f"{path.name} is damaged: {why}.",
        where=str(path),
        hint="Restore it from a backup, or remove it if it can be made again.",
    )


def publish_folder(staged: Path, target: Path, *, files: FileOperations = _FILES) -> None:
    """Make a staged folder of the same file system real: flush everything, rename, flush.

    The content becomes read-only after the rename, because a folder that moves must be writable.
    """
    with storage_border(f"publish {target.name}", target):
        folders = [staged]
        for path in sorted(staged.rglob("*")):
            if path.is_dir():
                folders.append(path)
            else:
                files.fsync_file(path)
        for folder in reversed(folders):
            files.fsync_folder(folder)
        files.rename(staged, target)
        files.fsync_folder(target.parent)
        make_read_only(target, files=files)


def make_read_only(folder: Path, *, files: FileOperations = _FILES) -> None:
    """Take away the right to write in a folder and below it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            files.set_mode(path, 0o555 if path.is_dir() else 0o444)
    files.set_mode(folder, 0o555)


@contextlib.contextmanager
def file_lock(
    path: Path,
    *,
    what: str,
    wait_seconds: float = 0.0,
    hint: str = "Wait until it is done (`contlearn status` shows it), then try again.",
) -> Iterator[None]:
    """Hold an advisory lock on a file while the block runs; a killed holder lets go by itself.

    Args:
        path: The file; made if it is not there.
        what: What the holder is doing, for the error.
        wait_seconds: How long another holder is waited for.
        hint: For the error.
    Raises:
        WorkspaceLocked: When another process holds it for longer than `wait_seconds`.
    """
    import time

    with storage_border("take the lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WorkspaceLocked(
                        f"Another process is {what}.",
                        where=f"{path}{_held_by(path)}",
                        hint=hint,
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _held_by(path: Path) -> str:
    """Say who holds a lock on a file; nothing where that cannot be seen."""
    said = [
        f", held by process {lock.pid} ({command_of(lock.pid) or 'not to be seen'})"
        + (", which was stopped" if is_stopped(lock.pid) else "")
        for lock in file_locks(path)
    ]
    return "".join(dict.fromkeys(said))


def plain(value: object) -> object:
    """Turn a value of ours into a JSON value; the `default` of json.dumps."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")
