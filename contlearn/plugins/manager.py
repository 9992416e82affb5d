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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pluggy

from contlearn.errors import ConfigError, ContlearnError, PluginError
from contlearn.plugins import hookspecs
from contlearn.redaction import redact

if TYPE_CHECKING:
    from types import ModuleType

    import click

    from contlearn.interfaces import Task
    from contlearn.types import Event

__all__ = ["KINDS", "PluginFailure", "PluginManager", "Registered", "require_given"]

T = TypeVar("T")

ENTRY_POINTS: Final = "contlearn"
STRICT_VARIABLE: Final = "CONTLEARN_STRICT_PLUGINS"
OWN: Final = "contlearn"
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
    """What could not be used of a plugin, and why."""

    name: str
    distribution: str
    error: str

    def __str__(self) -> str:
        return (
            f"The plugin {self.name!r} ({self.distribution}) is broken; what fails is left out: "
            f"{self.error}"
        )

    def to_json(self) -> dict[str, str]:
        """Give the failure as JSON."""
        return {"name": self.name, "distribution": self.distribution, "error": self.error}


@dataclass(frozen=True, slots=True)
class Registered:
    """A class behind a hook, and the distribution it came from."""

    kind: str
    name: str
    distribution: str
    implementation: type[Any]


class PluginManager:
    """All plugins of one process. Built-ins come through the same door as strangers.

    What a stranger brings and cannot be used is dropped, kept among `failures`, and said once in
    the log; an error it is for what asks for it by name.

    Args:
        discover: Look for installed plugins (entry-point group `contlearn`).
        folder: A folder of loose plugin files, each run as code: the user's own decision.
        blocked: Names of plugins that must not be loaded.
        quiet: Leave the log alone: the process that started this one has said it.
    Raises:
        PluginError: When there is no such folder, or, with CONTLEARN_STRICT_PLUGINS=1, when
            anything is dropped, at whichever call that comes to light.
    """

    def __init__(
        self,
        *,
        discover: bool = True,
        folder: Path | None = None,
        blocked: Iterable[str] = (),
        quiet: bool = False,
    ) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._distributions: dict[str, str] = {}
        self.blocked = frozenset(blocked)
        self._quiet = quiet
        self.folder = folder
        self.failures: list[PluginFailure] = []
        self.observer_errors = 0
        self._tables: dict[str, dict[str, Registered]] = {}
        for name in BUILTINS:
            self.register(importlib.import_module(name), name=name, distribution=OWN)
        if discover:
            self._load_entry_points()
        if folder is not None:
            self._load_folder(folder)

    def register(self, plugin: object, *, name: str, distribution: str) -> None:
        """Add a plugin: a module or an object with hook functions.

        Raises:
            PluginError: When a hook's arguments are wrong, or a name is taken.
        """
        try:
            self._pluggy.register(plugin, name=name)
            self._pluggy.check_pending()
        except Exception as error:
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
        """Give all classes of one kind by name, the built-in ones first.

        A name of a built-in class stays the built-in's; of two plugins that take one name neither
        has it.
        """
        if kind not in self._tables:
            hook = KINDS[kind]
            brought: dict[str, list[tuple[str, Registered]]] = {}
            for implementation in getattr(self._pluggy.hook, hook).get_hookimpls():
                plugin = implementation.plugin_name
                distribution = self._distributions[plugin]
                for item in self._given(plugin, hook, implementation.function):
                    with self._apart(plugin):
                        new = Registered(kind, _checked_name(kind, item), distribution, item)
                        brought.setdefault(new.name, []).append((plugin, new))
            found = self._without_clashes(kind, brought)
            self._tables[kind] = dict(
                sorted(found.items(), key=lambda item: (item[1].distribution != OWN, item[0]))
            )
        return self._tables[kind]

    def examine(self) -> Sequence[PluginFailure]:
        """Ask the plugins for all that they register, and give what is broken of it.

        Kinds that no stranger adds to are not loaded.
        """
        for kind, hook in KINDS.items():
            asked = getattr(self._pluggy.hook, hook).get_hookimpls()
            if any(implementation.plugin_name not in BUILTINS for implementation in asked):
                self.table(kind)
        return self.failures

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
        broken = "".join(f" {failure}" for failure in self.failures)
        raise PluginError(
            f"There is no {kind} {name!r}.{broken}",
            where=where,
            hint=(f"Did you mean {near[0]!r}? " if near else "")
            + f"Known: {', '.join(table) or 'none'}; loose files are loaded with --plugins-dir.",
        )

    def task(self, name: str, options: Mapping[str, object] | None = None, *, where: str) -> Any:
        """Make the task of this name, its options checked."""
        kind, checked = self.options("task", name, options or {}, where=where)
        with _named("task", name, kind):
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
        with _named(kind, name, implementation):
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

    def add_commands(self, cli: click.Group, *, taken: Collection[str] = ()) -> None:
        """Let plugins add commands.

        Args:
            cli: Where to.
            taken: The names of the program's own commands, which stay its own.
        """
        import click

        brought: dict[str, list[tuple[str, click.Command | None]]] = {
            name: [(BUILTINS[0], None)] for name in taken
        }
        for implementation in self._pluggy.hook.contlearn_register_commands.get_hookimpls():
            own = click.Group()
            with self._apart(implementation.plugin_name):
                implementation.function(cli=own)
            for name, new in own.commands.items():
                brought.setdefault(name, []).append((implementation.plugin_name, new))
        for name, command in self._without_clashes("command", brought).items():
            if command is not None:
                cli.add_command(command, name)

    def notify(self, event: Event) -> None:
        """Tell every observer; one that raises is logged and counted."""
        for implementation in self._pluggy.hook.contlearn_on_event.get_hookimpls():
            try:
                implementation.function(event=event)
            except KeyboardInterrupt:
                raise
            except BaseException:  # it may call sys.exit; only Ctrl-C is for us
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
            failure = next((f for f in self.examine() if f.name == name), None)
            if failure is not None or name not in loaded:
                raise PluginError(
                    f"The plugin {name!r} is required but "
                    + (f"broken: {failure.error}" if failure else "not installed."),
                    where="plugins.required in contlearn.toml",
                    hint="Install it into this environment, or take it out of the list.",
                )

    def list(self) -> list[dict[str, object]]:
        """Describe every plugin: name, distribution, what it registers, and what is broken."""
        errors: dict[tuple[str, str], list[str]] = {}
        for failure in self.examine():
            errors.setdefault((failure.name, failure.distribution), []).append(failure.error)
        brought: dict[str, list[str]] = {}
        for kind in KINDS:
            for item in self.table(kind).values():
                brought.setdefault(item.distribution, []).append(f"{kind} {item.name}")
        names = {
            (OWN, OWN): None,
            **{pair: None for pair in self._distributions.items() if pair[1] != OWN},
            **dict.fromkeys(errors),
        }
        return [
            {
                "name": name,
                "distribution": distribution,
                "registers": brought.get(distribution, []),
                "error": " ".join(errors.get((name, distribution), ())) or None,
            }
            for name, distribution in names
        ]

    def _load_entry_points(self) -> None:
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            if point.name in self.blocked:
                continue
            distribution = point.dist.name if point.dist is not None else "?"
            with self._apart(point.name, distribution):
                self.register(point.load(), name=point.name, distribution=distribution)

    def _load_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            raise PluginError(
                f"There is no folder {folder}.", where="--plugins-dir", hint="Name a folder."
            )
        for path in sorted(folder.glob("*.py")):
            if path.stem not in self.blocked:
                with self._apart(path.stem, str(path)):
                    self.register(_run_file(path), name=path.stem, distribution=str(path))

    def _given(self, plugin: str, hook: str, function: Callable[[], object]) -> Sequence[Any]:
        """Ask one plugin for its classes; nothing comes from a hook that fails."""
        classes: list[Any] = []
        with self._apart(plugin, doing=f"{hook} failed: "):
            given = function()
            if not isinstance(given, Iterable):
                raise PluginError(f"it gave {type(given).__name__}, not a list of classes.")
            classes.extend(given)
        return classes

    def _without_clashes(
        self, kind: str, brought: Mapping[str, Sequence[tuple[str, T]]]
    ) -> dict[str, T]:
        """Give what was brought under each name: the built-in, or the only one of its name."""
        found: dict[str, T] = {}
        for name, all_of_it in brought.items():
            own = [item for plugin, item in all_of_it if plugin in BUILTINS]
            if own or len(all_of_it) == 1:
                found[name] = own[0] if own else all_of_it[0][1]
            both = " and ".join(self._distributions[plugin] for plugin, _ in all_of_it)
            for plugin, _ in all_of_it:
                if own and plugin not in BUILTINS:
                    self._drop(plugin, f"Its {kind} {name!r} has the name of one of contlearn's.")
                elif not own and len(all_of_it) > 1:
                    self._drop(
                        plugin,
                        f"Two plugins register the {kind} {name!r} ({both}); neither is used. "
                        "Remove one of them, or block it with [plugins] blocked.",
                    )
        return found

    @contextmanager
    def _apart(self, name: str, distribution: str = "", *, doing: str = "") -> Iterator[None]:
        """Run a plugin's code; whatever it raises drops what it would have brought.

        Ctrl-C passes, and so does a fault of a built-in, which would be our own.
        """
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # it may call sys.exit; only Ctrl-C is for us
            if name in BUILTINS:
                raise
            text = (
                error.what
                if isinstance(error, ContlearnError)
                else traceback.format_exception_only(error)[-1].strip()
            )
            self._drop(name, f"{doing}{text}", distribution)

    def _drop(self, name: str, why: str, distribution: str = "") -> None:
        """Keep and say that something of a plugin is not used.

        Raises:
            PluginError: With CONTLEARN_STRICT_PLUGINS=1.
        """
        failure = PluginFailure(name, distribution or self._distributions[name], redact(why))
        if os.environ.get(STRICT_VARIABLE) == "1":
            raise PluginError(
                f"The plugin {name!r} cannot be used: {failure.error}",
                where=failure.distribution,
                hint=f"Repair or remove it, or unset {STRICT_VARIABLE}.",
            )
        if failure not in self.failures:
            self.failures.append(failure)
            if not self._quiet:
                logging.getLogger("contlearn.plugins").warning("%s", failure)


def _run_file(path: Path) -> ModuleType:
    """Run a loose file as a module."""
    name = f"contlearn_loose_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # given on: only the half-made module is taken away
        del sys.modules[name]
        raise
    return module


def _checked_name(kind: str, item: object) -> str:
    """Give the name of a class that a plugin registers.

    Raises:
        PluginError: When it is no class, or lacks what contlearn asks of every class of its kind.
    """
    if not isinstance(item, type):
        raise PluginError(f"It registers {item!r} as a {kind}, which is no class.")
    name = getattr(item, "name", None)
    if not isinstance(name, str) or not getattr(item, "summary", None):
        raise PluginError(
            f"The {kind} class {item!r} has no name and summary: give it these class attributes."
        )
    if kind == "parser":
        suffixes = getattr(item, "suffixes", None)
        if not isinstance(suffixes, tuple) or not all(isinstance(s, str) for s in suffixes):
            raise PluginError(f"The parser {name!r} has no `suffixes`, a tuple of file endings.")
    return name


@contextmanager
def _named(kind: str, name: str, implementation: type[Any]) -> Iterator[None]:
    """Name the class whose own code fails where it is asked for."""
    try:
        yield
    except ContlearnError:
        raise
    except Exception as error:
        raise PluginError(
            f"The {kind} {name!r} cannot be made: {type(error).__name__}: {error}.",
            where=implementation.__module__,
            hint="Repair the class, or take its name out of contlearn.toml.",
        ) from error


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
