"""Where the rows of files go, and under which rules: what one run of ingest shares."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from contlearn.catalog import Catalog
from contlearn.config import Config
from contlearn.interfaces import Clock, Progress, Task, no_progress
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations, Workspace

__all__ = ["Intake", "IntakePlace", "OneFile"]


@dataclass(frozen=True)
class Intake:
    """Where files are taken in, and by which rules: what everybody who takes some in says.

    Args:
        workspace: Where the rows go.
        config: The configuration.
        catalog: The catalog, open.
        manager: Where tasks and parsers come from.
        clock: The time.
        files: The file operations.
        progress: Called with ("ingesting", done, total, message).
        dry_run: Only say what would happen; nothing is written.
        format: A parser's name, where a file's own name does not tell.
        bring_back: Take texts in again that were forgotten; others stay as they are.
    """

    workspace: Workspace
    config: Config
    catalog: Catalog
    manager: PluginManager
    _: KW_ONLY
    clock: Clock
    files: FileOperations = field(default_factory=FileOperations)
    progress: Progress = no_progress
    dry_run: bool = False
    format: str | None = None
    bring_back: bool = False

    @cached_property
    def task(self) -> Task:
        """Give the configured task.

        Raises:
            PluginError: When it is not known, or one of its options is wrong.
        """
        model = self.config.model
        task: Task = self.manager.task(
            model.task, model.task_options, where="model.task in contlearn.toml"
        )
        return task


@dataclass(frozen=True, kw_only=True)
class IntakePlace:
    """What all files of one run share.

    `staging` is a folder on the file system of the records; `settings` hashes what the outcome
    depends on besides a file's content.
    """

    intake: Intake
    staging: Path
    received_at: datetime
    settings: str


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
