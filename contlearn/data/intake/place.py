"""Where the rows of files go, and under which rules: what one run of ingest shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contlearn.catalog import Catalog
from contlearn.config import Config
from contlearn.interfaces import Task
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations, Workspace

__all__ = ["IntakePlace", "OneFile"]


@dataclass(frozen=True, kw_only=True)
class IntakePlace:
    """What all files of one run share.

    `staging` is a folder on the file system of the records; `settings` hashes what the outcome
    depends on besides a file's content; with `bring_back` forgotten texts come in again.
    """

    workspace: Workspace
    config: Config
    catalog: Catalog
    manager: PluginManager
    task: Task
    files: FileOperations
    staging: Path
    received_at: datetime
    dry_run: bool
    settings: str
    bring_back: bool = False


@dataclass(frozen=True, kw_only=True)
class OneFile:
    """A file that is taken in: its name for people, its content, and whose side it is on.

    `mode` says who may read it: what is made of it is no wider.
    """

    name: str
    content_hash: str
    held_out: bool
    mode: int = 0o777

    def stem(self, settings: str) -> str:
        """Name the file's segment: the same in every run."""
        return f"{self.content_hash[:20]}-{settings[:6]}" + ("-h" if self.held_out else "")
