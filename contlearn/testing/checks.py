"""What every class behind a plugin hook must keep to."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from contlearn.interfaces import PRIORITIES
from contlearn.plugins.manager import KINDS, PluginManager

__all__ = ["check_all", "check_class"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_HEAVY: Final = ("torch", "transformers", "avalanche", "pyarrow", "onnxruntime")
# What a class of each kind must be able to do.
_METHODS: Final = {
    "task": ("read_fields", "encode", "learn", "decode", "statistics", "summarise"),
    "buffer": ("add", "remove", "items", "state", "load_state"),
    "parser": ("rows",),
    "gate rule": ("judge",),
    "strategy": ("learn",),
    "regularizer": ("begin", "save"),
    "detector": ("judge", "explain"),
}
# Kinds that are made with their options, and nothing else.
_WITH_OPTIONS: Final = ("gate rule", "strategy", "regularizer")


def check_all(manager: PluginManager) -> list[str]:
    """Check every registered class, and that every plugin could be loaded.

    Returns:
        One sentence for each problem.
    """
    problems = [
        f"The plugin {failure.name!r} ({failure.distribution}) failed: {failure.error}"
        for failure in manager.failures
    ]
    modules = set()
    for kind in KINDS:
        for item in manager.table(kind).values():
            problems += check_class(kind, item.implementation)
            modules.add(item.implementation.__module__)
    return problems + _check_weight(sorted(modules))


def check_class(kind: str, implementation: type[Any]) -> list[str]:
    """Check one class: its name, its summary, its methods, and that odd options are refused."""
    where = f"{kind} {implementation.__module__}.{implementation.__qualname__}"
    problems = []
    name = getattr(implementation, "name", "")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        problems.append(f"{where}: the name {name!r} is not lower-case words with hyphens.")
    summary = getattr(implementation, "summary", "")
    if not isinstance(summary, str) or not summary or "\n" in summary:
        problems.append(f"{where}: the summary is not one line.")
    problems += [
        f"{where}: the method {method} is missing."
        for method in _METHODS[kind]
        if not callable(getattr(implementation, method, None))
    ]
    if kind == "parser":
        suffixes = getattr(implementation, "suffixes", None)
        if not isinstance(suffixes, tuple) or not all(
            isinstance(suffix, str) and suffix.startswith(".") for suffix in suffixes
        ):
            problems.append(f"{where}: suffixes is no tuple of endings that begin with a dot.")
    if kind == "detector":
        problems += _check_detector(where, implementation)
    if kind == "buffer":
        problems += _check_buffer(where, implementation)
    if kind == "strategy" and not isinstance(getattr(implementation, "reads_history", None), bool):
        problems.append(f"{where}: reads_history is neither True nor False.")
    if kind in _WITH_OPTIONS and not _is_made_with(implementation, None):
        problems.append(f"{where}: it is not made with (options).")
    options = getattr(implementation, "Options", None)
    if options is None and kind in _WITH_OPTIONS:
        problems.append(f"{where}: the class attribute Options is missing.")
    if options is not None:
        if not (isinstance(options, type) and issubclass(options, BaseModel)):
            problems.append(f"{where}: Options is not a pydantic model.")
        else:
            try:
                options.model_validate({"surely_not_an_option": 1})
                problems.append(f"{where}: Options accepts keys it does not know.")
            except ValidationError:
                pass
    return problems


def _check_detector(where: str, implementation: type[Any]) -> list[str]:
    """Check what is asked of a detector before it sees a window."""
    problems = []
    if getattr(implementation, "target", None) not in ("input", "prediction", "label"):
        problems.append(f'{where}: target is none of "input", "prediction" and "label".')
    needs = getattr(implementation, "needs", None)
    if not isinstance(needs, tuple):
        problems.append(f"{where}: needs is no tuple of columns.")
    if not _is_made_with(implementation, None, nulls={}, seed=17):
        problems.append(f"{where}: it is not made with (reference, *, nulls, seed=17).")
    return problems


def _check_buffer(where: str, implementation: type[Any]) -> list[str]:
    """Check how a buffer is made, and what it asks the model."""
    problems = []
    bounds = ("capacity_records", "capacity_bytes", "records_per_label", "seed")
    if not _is_made_with(implementation, **dict.fromkeys(bounds, 1)):
        problems.append(f"{where}: it is not made with (*, {', '.join(bounds)}).")
    priority = getattr(implementation, "priority", "")
    if priority and priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        problems.append(f"{where}: the priority {priority!r} is none of {known}.")
    return problems


def _is_made_with(implementation: type[Any], *values: object, **named: object) -> bool:
    """Say whether a class takes these arguments."""
    try:
        inspect.signature(implementation).bind(*values, **named)
    except (TypeError, ValueError):
        return False
    return True


def _check_weight(modules: list[str]) -> list[str]:
    """Import the modules in a fresh interpreter and see what came along with each."""
    code = (
        "import importlib, json, sys\n"
        f"heavy, found = set({list(_HEAVY)!r}), {{}}\n"
        f"for name in {modules!r}:\n"
        "    before = heavy & set(sys.modules)\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        continue  # a loose file is no module that can be imported by its name\n"
        "    found[name] = sorted(heavy & set(sys.modules) - before)\n"
        "print(json.dumps(found))"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    if end.returncode:
        said = (end.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return [f"The plugins' modules cannot be imported in a fresh interpreter: {said}"]
    return [
        f"Importing {name} loads {', '.join(heavy)}; import it inside methods."
        for name, heavy in json.loads(end.stdout.strip().splitlines()[-1]).items()
        if heavy
    ]
