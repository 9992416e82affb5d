"""What every class behind a plugin hook must keep to."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, Final

from pydantic import BaseModel, ValidationError

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
    "strategy": (),
    "regularizer": (),
    "exporter": (),
    "detector": ("judge", "explain"),
}


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
    options = getattr(implementation, "Options", None)
    if options is None and kind in ("gate rule", "strategy", "regularizer"):
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


def _check_weight(modules: list[str]) -> list[str]:
    """Import the modules in a fresh interpreter and see what came along."""
    code = (
        f"import sys\nfor name in {modules!r}:\n    __import__(name)\n"
        f"print(','.join(sorted(set({list(_HEAVY)!r}) & set(sys.modules))))"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    if end.returncode:
        return []  # a loose file is no importable module; its load was checked already
    heavy = end.stdout.strip()
    return (
        [f"Importing the plugins' modules loads {heavy}; import it inside methods."]
        if heavy
        else []
    )
