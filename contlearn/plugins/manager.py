"""Discovery, name clashes, isolation of broken plugins, and look-up by name."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pluggy

from contlearn.errors import ConfigError, ContlearnError, PluginError
from contlearn.plugins import hookspecs

if TYPE_CHECKING:
    import click

    from contlearn.interfaces import Task
    from contlearn.types import Event

__all__ = ["KINDS", "PluginFailure", "PluginManager", "Registered", "require_given"]

ENTRY_POINTS: Final = "contlearn"
STRICT_VARIABLE: Final = "CONTLEARN_STRICT_PLUGINS"
# The built-in hooks, loaded by dotted name: this package never looks upward. Each imports what it
# registers when it is asked, so that a command loads only the kinds it needs.
BUILTINS: Final = (
    "contlearn.tasks.hooks",
    "contlearn.data.hooks",
    "contlearn.replay.hooks",
    "contlearn.training.hooks",
    "contlearn.evaluation.hooks",
    "contlearn.monitoring.hooks",
)
# What can be registered: the singular kind and its hook.
KINDS: Final = {
    "task": "contlearn_register_tasks",
    "strategy": "contlearn_register_strategies",
    "regularizer": "contlearn_register_regularizers",
    "buffer": "contlearn_register_buffers",
    "parser": "contlearn_register_parsers",
    "gate rule": "contlearn_register_gate_rules",
    "detector": "contlearn_register_detectors",
}


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that could not be loaded, and why."""

    name: str
    distribution: str
    error: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A class behind a hook, and the distribution it came from."""

    kind: str
    name: str
    distribution: str
    implementation: type[Any]


class PluginManager:
    """All plugins of one process. Built-ins come through the same door as strangers.

    Args:
        discover: Look for installed plugins (entry-point group `contlearn`).
        folder: A folder of loose plugin files, each run as code: the user's own decision.
        blocked: Names of plugins that must not be loaded.
    Raises:
        PluginError: When two plugins use one name, or, with CONTLEARN_STRICT_PLUGINS=1, when a
            plugin cannot be loaded.
    """

    def __init__(
        self,
        *,
        discover: bool = True,
        folder: Path | None = None,
        blocked: Iterable[str] = (),
    ) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._distributions: dict[str, str] = {}
        self._blocked = frozenset(blocked)
        self.folder = folder
        self.failures: list[PluginFailure] = []
        self.observer_errors = 0
        self._tables: dict[str, dict[str, Registered]] = {}
        for name in BUILTINS:
            self.register(importlib.import_module(name), name=name, distribution="contlearn")
        if discover:
            self._load_entry_points()
        if folder is not None:
            self._load_folder(folder)
        if self.failures and os.environ.get(STRICT_VARIABLE) == "1":
            failure = self.failures[0]
            raise PluginError(
                f"The plugin {failure.name!r} could not be loaded: {failure.error}",
                where=failure.distribution,
                hint=f"Repair or remove it, or unset {STRICT_VARIABLE}.",
            )

    def register(self, plugin: object, *, name: str, distribution: str) -> None:
        """Add a plugin: a module or an object with hook functions.

        Raises:
            PluginError: When a hook's arguments are wrong, or a name is taken.
        """
        try:
            self._pluggy.register(plugin, name=name)
            self._pluggy.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._pluggy.has_plugin(name) and self._pluggy.get_plugin(name) is plugin:
                self._pluggy.unregister(plugin)
            raise PluginError(
                f"The plugin {name!r} does not fit the hooks of contlearn: {error}",
                where=distribution,
                hint="`contlearn plugins check` shows the hooks and their arguments.",
            ) from error
        self._distributions[name] = distribution
        self._tables.clear()

    def table(self, kind: str) -> Mapping[str, Registered]:
        """Give all classes of one kind by name.

        Raises:
            PluginError: When two distributions register one name, or a class has no name.
        """
        if kind not in self._tables:
            found: dict[str, Registered] = {}
            caller = getattr(self._pluggy.hook, KINDS[kind])
            for implementation in reversed(caller.get_hookimpls()):
                distribution = self._distributions.get(implementation.plugin_name, "?")
                for item in implementation.function():
                    name = getattr(item, "name", None)
                    if not isinstance(name, str) or not getattr(item, "summary", None):
                        raise PluginError(
                            f"The {kind} class {item!r} has no name and summary.",
                            where=distribution,
                            hint="Give it the class attributes `name` and `summary`.",
                        )
                    if name in found:
                        raise PluginError(
                            f"Two plugins register the {kind} {name!r}.",
                            where=f"{found[name].distribution} and {distribution}",
                            hint="Remove one of them, or block it with [plugins] blocked.",
                        )
                    found[name] = Registered(kind, name, distribution, item)
            self._tables[kind] = dict(sorted(found.items()))
        return self._tables[kind]

    def get(self, kind: str, name: str, *, where: str) -> type[Any]:
        """Look one class up by its name.

        Raises:
            PluginError: With the choices, the near name, and the failure of a plugin that may
                have brought it.
        """
        table = self.table(kind)
        if name in table:
            return table[name].implementation
        near = difflib.get_close_matches(name, list(table), n=1, cutoff=0.5)
        broken = "".join(
            f" The plugin {f.name!r} ({f.distribution}) could not be loaded: {f.error}."
            for f in self.failures
        )
        raise PluginError(
            f"There is no {kind} {name!r}.{broken}",
            where=where,
            hint=(f"Did you mean {near[0]!r}? " if near else "")
            + f"Known: {', '.join(table) or 'none'}; loose files are loaded with --plugins-dir.",
        )

    def task(self, name: str, options: Mapping[str, object] | None = None, *, where: str) -> Any:
        """Make the task of this name, its options checked."""
        kind, checked = self.options("task", name, options or {}, where=where)
        return kind(checked)

    def options(
        self, kind: str, name: str, values: Mapping[str, object], *, where: str
    ) -> tuple[type[Any], Any]:
        """Look a class up and check its options, before anything heavy is loaded.

        Returns:
            The class and its checked options.
        Raises:
            PluginError: When there is no such class, or an option is wrong.
        """
        from pydantic import ValidationError

        implementation = self.get(kind, name, where=where)
        if not hasattr(implementation, "Options"):
            raise PluginError(
                f"The {kind} {name!r} has no class attribute Options.",
                where=implementation.__module__,
                hint="Give it a pydantic model that refuses unknown keys; it may be empty.",
            )
        try:
            return implementation, implementation.Options.model_validate(dict(values))
        except ValidationError as error:
            known = list(implementation.Options.model_fields)
            problems = []
            for item in error.errors(include_url=False):
                key = ".".join(map(str, item["loc"]))
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                problems.append(
                    f"{key}: {item['msg']}." + (f" Did you mean {near[0]!r}?" if near else "")
                )
            raise PluginError(
                f"The options of the {kind} {name!r} are wrong. {' '.join(problems)}",
                where=where,
                hint=f"It takes: {', '.join(known) or 'no options'}.",
            ) from error

    def add_commands(self, cli: click.Group) -> None:
        """Let plugins add commands; one that fails is noted, and the program goes on."""
        for implementation in self._pluggy.hook.contlearn_register_commands.get_hookimpls():
            try:
                implementation.function(cli=cli)
            except Exception as error:
                self._fail(implementation.plugin_name, error)

    def notify(self, event: Event) -> None:
        """Tell every observer; one that raises is logged and counted."""
        for implementation in self._pluggy.hook.contlearn_on_event.get_hookimpls():
            try:
                implementation.function(event=event)
            except Exception:
                self.observer_errors += 1
                logging.getLogger("contlearn.plugins").exception(
                    "observer failed", extra={"plugin": implementation.plugin_name}
                )

    def require(self, names: Iterable[str]) -> None:
        """Check that the plugins the configuration asks for are there.

        Raises:
            PluginError: When one is missing or broken.
        """
        loaded = {name for name, _ in self._pluggy.list_name_plugin()}
        for name in names:
            if name not in loaded:
                failure = next((f for f in self.failures if f.name == name), None)
                raise PluginError(
                    f"The plugin {name!r} is required but "
                    + (f"could not be loaded: {failure.error}" if failure else "not installed."),
                    where="plugins.required in contlearn.toml",
                    hint="Install it into this environment, or take it out of the list.",
                )

    def list(self) -> list[dict[str, object]]:
        """Describe every plugin: name, distribution, what it registers, or why it failed."""
        brought: dict[str, list[str]] = {}
        for kind in KINDS:
            for item in self.table(kind).values():
                brought.setdefault(item.distribution, []).append(f"{kind} {item.name}")
        rows: list[dict[str, object]] = [
            {"name": name, "distribution": distribution, "registers": [], "error": None}
            for name, distribution in self._distributions.items()
            if distribution != "contlearn"
        ]
        for row in rows:
            row["registers"] = brought.get(str(row["distribution"]), [])
        rows.insert(
            0,
            {
                "name": "contlearn",
                "distribution": "contlearn",
                "registers": brought.get("contlearn", []),
                "error": None,
            },
        )
        rows.extend(
            {"name": f.name, "distribution": f.distribution, "registers": [], "error": f.error}
            for f in self.failures
        )
        return rows

    def _load_entry_points(self) -> None:
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            if point.name in self._blocked:
                continue
            distribution = point.dist.name if point.dist is not None else "?"
            try:
                self.register(point.load(), name=point.name, distribution=distribution)
            except Exception as error:
                self._fail(point.name, error, distribution)

    def _load_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            raise PluginError(
                f"There is no folder {folder}.", where="--plugins-dir", hint="Name a folder."
            )
        for path in sorted(folder.glob("*.py")):
            name = f"contlearn_loose_{path.stem}"
            if path.stem in self._blocked:
                continue
            try:
                spec = importlib.util.spec_from_file_location(name, path)
                if spec is None or spec.loader is None:
                    raise ImportError(f"{path} is not a Python module")
                module = importlib.util.module_from_spec(spec)
                sys.modules[name] = module
                spec.loader.exec_module(module)
                self.register(module, name=path.stem, distribution=str(path))
            except Exception as error:
                self._fail(path.stem, error, str(path))

    def _fail(self, name: str, error: Exception, distribution: str | None = None) -> None:
        text = (
            error.what
            if isinstance(error, ContlearnError)
            else traceback.format_exception_only(error)[-1].strip()
        )
        self.failures.append(
            PluginFailure(name, distribution or self._distributions.get(name, "?"), text)
        )


def require_given(
    task: Task, kind: type[Any], *, where: str, more: frozenset[str] = frozenset()
) -> None:
    """Refuse a part that needs more than the task gives, before anything runs.

    Args:
        task: What there is to learn.
        kind: The class of the part; its `needs` say what it needs.
        where: The key that names it.
        more: What it needs besides.
    Raises:
        ConfigError: Naming what is missing.
    """
    missing = sorted((getattr(kind, "needs", frozenset()) | more) - task.gives)
    if missing:
        raise ConfigError(
            f"{kind.name!r} needs {', '.join(missing)}; the task {task.name!r} does not give that.",
            where=f"{where} in contlearn.toml",
            hint=f"Choose another; the task gives: {', '.join(sorted(task.gives)) or 'nothing'}.",
        )
