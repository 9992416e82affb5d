"""The labels that the inbox would take, as the server knows them: feedback is checked by them.

The configuration is read again when its file changes, the catalog is asked when a name comes that
was not known. Both only when feedback arrives: asking the model waits for neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from contlearn.config import Config, load_config
from contlearn.data.intake.checking import RowChecker
from contlearn.errors import ContlearnError
from contlearn.interfaces import Task
from contlearn.workspace import Workspace

if TYPE_CHECKING:
    from contlearn.catalog import Catalog

__all__ = ["KnownLabels", "WorkspaceLabels"]

_log = logging.getLogger("contlearn.serving")


@dataclass
class KnownLabels:
    """A configuration, and labels that stay as they are.

    Args:
        config: What rows are checked by.
        names: The labels that records have already.
    """

    config: Config = field(default_factory=Config)
    names: tuple[str, ...] = ()

    def checker(self, task: Task) -> RowChecker:
        """Make what checks rows as the inbox does."""
        return RowChecker(task, self.config, self.names)

    def read_config(self) -> None:
        """Take the configuration that is in force now."""

    def read_names(self) -> bool:
        """Take the labels that are known now; say whether there are others than before."""
        return False

    def rows_of(self, label: str, limit: int, *, separator: str | None) -> int:
        """Count the records of a label, no further than the limit."""
        return limit if label in self.names else 0

    def close(self) -> None:
        """Close what was opened."""


@dataclass
class WorkspaceLabels(KnownLabels):
    """Those of a workspace, as they are now.

    Without a catalog that can be read, the labels of the version that answers are what is known,
    each with as many records as need be.

    Args:
        workspace: Whose they are.
        served: Gives the labels of the version that answers.
    """

    workspace: Workspace = field(default_factory=lambda: Workspace(Path()))
    served: Callable[[], Iterable[str]] = field(default=lambda: ())
    _stamp: tuple[int, int] | None = field(default=None, init=False)
    _catalog: Catalog | None = field(default=None, init=False)

    def read_config(self) -> None:
        """Take the configuration that is in force now; one that is wrong is passed over."""
        stamp = self._config_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            new = load_config(self.workspace.root).config
        except ContlearnError as error:
            _log.error(
                "configuration refused, the old one is kept", extra={"error": error.to_json()}
            )
            return
        # Everything else holds as it was when the server started.
        self.config = self.config.model_copy(update={"data": new.data})

    def _config_stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.workspace.config_file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def read_names(self) -> bool:
        """Take the labels that are known now; say whether there are others than before."""
        before = self.names
        try:
            catalog = self._open()
            if catalog is None:
                self.names = tuple(sorted(self.served()))
            else:
                from contlearn.data.intake.known import known_labels

                with catalog.read() as connection:
                    self.names = tuple(known_labels(connection))
        except ContlearnError as error:
            _log.warning("known labels cannot be read", extra={"error": error.to_json()})
            self.names = before or tuple(sorted(self.served()))
        return self.names != before

    def rows_of(self, label: str, limit: int, *, separator: str | None) -> int:
        """Count the records of a label, no further than the limit."""
        try:
            catalog = self._open()
            if catalog is not None:
                from contlearn.data.intake.known import label_rows

                with catalog.read() as connection:
                    return label_rows(connection, label, limit, separator=separator)
        except ContlearnError as error:
            _log.warning("records cannot be counted", extra={"error": error.to_json()})
        return super().rows_of(label, limit, separator=separator)

    def _open(self) -> Catalog | None:
        """Give the catalog; None while there is none, for the server makes none."""
        if self._catalog is None:
            from contlearn.catalog.belonging import open_catalog

            url = self.workspace.catalog_url(self.config)
            is_file = url.get_backend_name() == "sqlite"
            if is_file and not Path(url.database or "").is_file():
                return None
            self._catalog = open_catalog(self.workspace, self.config)
        return self._catalog

    def close(self) -> None:
        """Close the catalog."""
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None
