"""Everything a command works with, opened once: workspace, configuration, plugins, catalog."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from contlearn.config import Config, LoadedConfig, load_config
from contlearn.config.handover import hand_over, plugins_taken_over, taken_over
from contlearn.config.schedule import read_cron
from contlearn.errors import ConfigError, StorageError
from contlearn.evaluation.gate import make_rules
from contlearn.interfaces import Clock, Task
from contlearn.plugins.manager import PluginManager, require_given
from contlearn.tasks.measures import metric_named
from contlearn.training.checks import check_buffer, check_learners, check_method
from contlearn.training.search import check_search
from contlearn.types import Event
from contlearn.workspace import READ_ONLY, SystemClock, Workspace

if TYPE_CHECKING:
    from contlearn.catalog import Catalog
    from contlearn.registry.versions import Registry

__all__ = ["Context", "check_names"]


@dataclass
class Context:
    """One opened workspace. The catalog and the registry are opened when first used."""

    workspace: Workspace
    config: Config
    manager: PluginManager
    origins: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    actor: str = field(default_factory=lambda: _user())

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        overrides: Mapping[str, object] | None = None,
        plugins_dir: Path | None = None,
        clock: Clock | None = None,
    ) -> Context:
        """Read and check the configuration of a workspace, with the plugins it names.

        A child works with the configuration that its parent handed over.

        Raises:
            WorkspaceError: When there is no contlearn.toml.
            ConfigError: When the configuration is wrong.
            PluginError: When a name or an option in it is not known.
        """
        workspace = Workspace(root.absolute())
        in_force = None if overrides else taken_over(workspace.root)
        plugins_dir = plugins_dir or plugins_taken_over(workspace.root)
        if in_force is not None:
            loaded = LoadedConfig(in_force)
        else:
            loaded = load_config(workspace.require().root, overrides=overrides)
        manager = PluginManager(
            folder=plugins_dir, blocked=loaded.config.plugins.blocked, quiet=in_force is not None
        )
        # What is broken is known, and said, from the start: not where it would first be missed.
        manager.examine()
        check_names(loaded.config, manager)
        for name in ("private_key", "public_key"):
            key = workspace.key(getattr(loaded.config.signing, name))
            if key is not None:
                from contlearn.inference.signature import require_signing

                require_signing(key, where=f"signing.{name} in contlearn.toml")
        try:
            workspace.make_folders()
        except StorageError as error:
            # A server needs none of them: on a read-only mount it answers, and logs nothing.
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in READ_ONLY:
                raise
            logging.getLogger("contlearn.workspace").warning("%s", error)
        return cls(workspace, loaded.config, manager, loaded.origins, clock or SystemClock())

    @cached_property
    def task(self) -> Task:
        """The task of the model."""
        task: Task = self.manager.task(
            self.config.model.task, self.config.model.task_options, where="model.task"
        )
        return task

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog, opened; it is this workspace's."""
        from contlearn.catalog.belonging import open_catalog

        return open_catalog(self.workspace, self.config)

    @cached_property
    def registry(self) -> Registry:
        """The registry of versions."""
        from contlearn.registry.preflight import check_in_child
        from contlearn.registry.versions import Registry

        preflight = partial(
            check_in_child, plugins_dir=self.manager.folder, blocked=self.manager.blocked
        )
        return Registry(self.workspace, self.config, clock=self.clock, preflight=preflight)

    def for_children(self) -> dict[str, str]:
        """Give the variables with which a child works as this process does."""
        return hand_over(self.config, self.workspace.root, self.manager.folder)

    def emit(self, kind: str, **fields: object) -> None:
        """Tell observers what happened."""
        self.manager.notify(
            Event(kind=kind, at=self.clock.now(), workspace=str(self.workspace.root), fields=fields)
        )

    def close(self) -> None:
        """Close what was opened."""
        if "catalog" in self.__dict__:
            self.catalog.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_names(config: Config, manager: PluginManager) -> None:
    """Check every name and option that the configuration gives to plugins, before anything runs.

    Raises:
        PluginError: For a name or an option that is not known.
        ConfigError: For a metric the task does not have, or an empty gate.
    """
    manager.require(config.plugins.required)
    task = manager.task(config.model.task, config.model.task_options, where="model.task")
    training = config.training
    check_learners(training, task, manager)
    check_method(training.method, training.method_options)
    check_search(training, manager)
    check_buffer(config.replay, task, manager)
    for _, rule in make_rules(config.gate, manager):
        require_given(task, type(rule), where="gate.rules")
        if hasattr(rule, "check"):
            rule.check(config)
    for name in config.monitoring.detectors:
        manager.get("detector", name, where="monitoring.detectors in contlearn.toml")
    metric = metric_named(task, config.gate.metric or task.primary_metric)
    for key in ("margin", "min_gain"):
        if not metric.unit and getattr(config.gate, key) >= 1.0:
            raise ConfigError(
                f"gate.{key} is {getattr(config.gate, key):g}, but {metric.name} is a share.",
                where=f"gate.{key} in contlearn.toml",
                hint="Give a number below 1: 0.03 is three points of a hundred.",
            )
    if config.update.schedule:
        check_schedule(config)


def check_schedule(config: Config) -> None:
    """Check the cron expression and the time zone.

    Raises:
        ConfigError: When either cannot be read.
    """
    try:
        read_cron(config.update.schedule, config.update.timezone)
    except (ValueError, LookupError) as error:
        raise ConfigError(
            f"The schedule {config.update.schedule!r} in the time zone "
            f"{config.update.timezone!r} cannot be read: {error}.",
            where="update.schedule in contlearn.toml",
            hint='Minute, hour, day, month and weekday, for example "0 3 * * sun"; "@daily"; and a '
            'zone such as "Europe/Berlin".',
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
