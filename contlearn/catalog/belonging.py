"""A catalog belongs to one workspace: who it is stands in both, and is compared at each opening.

A SQLite file inside its workspace is copied, moved and restored together with it: there the two
names must be equal, and a copy of a workspace goes on as a copy. A catalog elsewhere, on a server
above all, is found by every copy of the workspace. So it also knows the place of its workspace
(host, folder, and the file system's own number of the file with the name, which a copy does not
have), and who is no longer at that place must claim it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.database import Catalog
from contlearn.catalog.leases import holder_of, read_leases
from contlearn.catalog.rows import get, insert_if_absent, put
from contlearn.catalog.schema import meta
from contlearn.config import Config
from contlearn.errors import ConfigError, StorageError, WorkspaceLocked
from contlearn.workspace import Workspace, storage_border

__all__ = ["Claim", "claim_catalog", "open_catalog"]

_KEY: Final = "workspace"
_WHERE: Final = "storage.catalog in contlearn.toml"
_HOW: Final = (
    "Name another database there, or another file. If this workspace shall have it from now on and "
    "the other one shall not (it is gone, or was moved or restored to here), run "
    "`contlearn catalog claim`."
)


@dataclass(frozen=True, slots=True)
class _Place:
    """A workspace: its own name, and where it is."""

    workspace: str
    root: str
    host: str
    file_number: int

    @classmethod
    def read(cls, text: str) -> _Place:
        value = json.loads(text)
        return cls(
            str(value["workspace"]),
            str(value.get("root", "")),
            str(value.get("host", "")),
            int(value.get("file_number", 0)),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def without_place(self) -> _Place:
        """Give the name alone: a catalog inside its workspace is wherever that is."""
        return replace(self, root="", host="", file_number=0)

    def __str__(self) -> str:
        if not self.root:
            return f"{self.workspace[:12]}, inside which it was made"
        return f"{self.root} on {self.host} ({self.workspace[:12]})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A catalog that was claimed: from whom, for whom, in words; None when it had nobody."""

    catalog: str
    workspace: str
    before: str | None


def open_catalog(workspace: Workspace, config: Config) -> Catalog:
    """Open the catalog of a workspace, and check that it is this workspace's.

    One that nobody has yet, as those of earlier versions, is this workspace's from now on.

    Raises:
        ConfigError: When it is another workspace's, naming both.
        StorageError: When it cannot be opened.
    """
    catalog = _opened(workspace, config)
    try:
        _require_own(catalog, workspace)
    except BaseException:
        catalog.close()
        raise
    return catalog


def claim_catalog(workspace: Workspace, config: Config, *, dry_run: bool = False) -> Claim:
    """Make the catalog that the configuration names this workspace's.

    Raises:
        WorkspaceLocked: When somebody works with it now.
        StorageError: When it cannot be opened or written.
    """
    with _opened(workspace, config) as catalog:
        for lease in read_leases(catalog):
            holder = holder_of(catalog, lease)
            if holder is not None:
                raise WorkspaceLocked(
                    f"Somebody (on {holder.owner.split(':')[0]}) is {holder.purpose}, with this "
                    "catalog.",
                    where=catalog.place,
                    hint="End it first. If it was killed, wait until its lease has run out "
                    "(update.lease_seconds).",
                )
        with catalog.write() as connection:
            known = _recall(connection)
            name = _own_name(workspace) or (known.workspace if known is not None else None)
            if not dry_run:
                place = _here(workspace, name)
                if _is_inside(catalog, workspace):
                    place = place.without_place()
                put(connection, meta, {"key": _KEY, "value": place.to_json()})
    return Claim(
        catalog.place, str(workspace.root.absolute()), None if known is None else str(known)
    )


def _opened(workspace: Workspace, config: Config) -> Catalog:
    url = workspace.catalog_url(config)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if file is not None and not file.exists():
        _require_none_of_before(file)
    return Catalog(url, ids=workspace.state / "ids")


def _require_none_of_before(file: Path) -> None:
    """Stop where an earlier version read `%20` or `?` in the folder's name as a part of a URL."""
    with contextlib.suppress(sa.exc.ArgumentError):
        before = sa.engine.make_url(f"sqlite:///{file}").database
        if before and before != str(file) and Path(before).is_file():
            raise StorageError(
                f"An earlier contlearn kept the catalog of this workspace in {before}, because it "
                "took the name of the folder for a URL.",
                where=str(file),
                hint=f"End what works there and move {before} to {file} (with -wal and .ids beside "
                "it, if they are there). If two workspaces wrote into it, ask which it shall stay "
                "with: the other begins anew without it.",
            )


def _require_own(catalog: Catalog, workspace: Workspace) -> None:
    with catalog.read() as connection:
        known = _recall(connection)
    if known is None:
        mine = _here(workspace, _own_name(workspace))
        if _is_inside(catalog, workspace):
            mine = mine.without_place()
        with catalog.write() as connection:
            insert_if_absent(connection, meta, {"key": _KEY, "value": mine.to_json()})
            # Another may have been faster.
            known = _recall(connection)
        if known is None:
            raise StorageError("The catalog forgets what is written.", where=catalog.place)
    name = _own_name(workspace)
    if _is_inside(catalog, workspace):
        if name is None:
            name = _here(workspace, known.workspace).workspace
        if name != known.workspace:
            raise _foreign(known, workspace, name)
        return
    if name != known.workspace:
        raise _foreign(known, workspace, name)
    here = _here(workspace, name)
    if here == known:
        return
    if here.file_number != known.file_number and not _has_moved(known, here):
        raise _foreign(known, workspace, name)
    with catalog.write() as connection:
        put(connection, meta, {"key": _KEY, "value": here.to_json()})


def _has_moved(known: _Place, here: _Place) -> bool:
    """Say whether a workspace came from the place that a catalog knows, and is not a copy."""
    if known.host != here.host:
        return False
    if known.root == here.root:
        return True  # restored in its place
    there = Workspace(Path(known.root))
    return _own_name(there) != here.workspace


def _foreign(known: _Place, workspace: Workspace, name: str | None) -> ConfigError:
    here = f"{workspace.root.absolute()} on {socket.gethostname()}"
    if name is None:
        what = f"this workspace ({here}) does not know it: its state is new, or was lost"
    elif name == known.workspace:
        what = f"this workspace ({here}) is a copy of it, or was moved to another machine"
    else:
        what = f"this one is {here} ({name[:12]})"
    return ConfigError(
        f"The catalog belongs to the workspace {known}; {what}.", where=_WHERE, hint=_HOW
    )


def _is_inside(catalog: Catalog, workspace: Workspace) -> bool:
    if catalog.file is None:
        return False
    return catalog.file.resolve().is_relative_to(workspace.root.resolve())


def _recall(connection: Connection) -> _Place | None:
    row = get(connection, meta, _KEY)
    if row is None:
        return None
    try:
        return _Place.read(row.value)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"The catalog does not say whose it is: {error}.",
            where=f"the row {_KEY!r} of its table meta",
            hint="Run `contlearn catalog claim` in the workspace that it belongs to.",
        ) from error


def _identity_file(workspace: Workspace) -> Path:
    return workspace.state / "workspace.json"


def _own_name(workspace: Workspace) -> str | None:
    """Give the name that a workspace has; None before its first opening."""
    path = _identity_file(workspace)
    try:
        value: Any = json.loads(path.read_bytes())
        return str(value["workspace"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"The workspace does not say which it is: {error}.",
            where=str(path),
            hint="Restore it from a backup, or remove it and run `contlearn catalog claim`.",
        ) from error


def _here(workspace: Workspace, name: str | None) -> _Place:
    """Give this workspace's place; its name is made, or taken over, where it has none."""
    path = _identity_file(workspace)
    if not path.exists():
        _write_once(path, {"workspace": name or uuid.uuid4().hex})
    written = _own_name(workspace)
    if written is None:
        raise StorageError("The workspace's own name is gone.", where=str(path))
    return _Place(written, str(workspace.root.absolute()), socket.gethostname(), path.stat().st_ino)


def _write_once(path: Path, value: dict[str, str]) -> None:
    """Write a file that nobody has written yet; of two that do so at once, one wins."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with storage_border("write the name of the workspace", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(value) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            except OSError:
                # No links here (a share, FAT): made under its name, unless it is there.
                with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                    file.write(json.dumps(value) + "\n")
        finally:
            temporary.unlink(missing_ok=True)
