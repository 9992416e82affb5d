"""Reading contlearn.toml, variables and flags, and checking everything before anything runs.

The order of precedence is flag, `CONTLEARN_<SECTION>__<KEY>` variable, contlearn.toml, default.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contlearn.config.keys import keys_of
from contlearn.config.whole import Config
from contlearn.errors import ConfigError, WorkspaceError
from contlearn.redaction import redact_value

__all__ = ["CONFIG_FILE", "LoadedConfig", "load_config"]

CONFIG_FILE = "contlearn.toml"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A checked configuration and where each value came from (default, file, variable, flag)."""

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)


def load_config(
    root: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Read contlearn.toml below `root`, apply variables and flags, and check everything.

    Args:
        root: The workspace.
        overrides: Flags, as {"training.strategy": "naive"}.
        environ: The variables to look at; the process's own if left out.
    Raises:
        WorkspaceError: When there is no contlearn.toml.
        ConfigError: With every problem at once: the path of the key, what is wrong, the near name.
    """
    path = root / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WorkspaceError(
            f"There is no {CONFIG_FILE} in {root}.",
            where=str(path),
            hint="Run `contlearn init DIR`, or name a workspace with --workspace DIR.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{CONFIG_FILE} is not UTF-8.", where=str(path), hint="Save it as UTF-8."
        ) from error
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{CONFIG_FILE} is not valid TOML: {error}.",
            where=str(path),
            hint="Correct the line that is named.",
        ) from error
    origins = dict.fromkeys(_leaves(data), "file")
    for name, value in (os.environ if environ is None else environ).items():
        parts = name.removeprefix("CONTLEARN_").lower().split("__")
        if name.startswith("CONTLEARN_") and len(parts) >= 2:
            _assign(data, parts, _literal(value), name)
            origins[".".join(parts)] = f"variable {name}"
    for key, override in (overrides or {}).items():
        _assign(data, key.split("."), override, key)
        origins[key] = "flag"
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems = [_explain(item, origins) for item in error.errors(include_url=False)]
        raise ConfigError(
            "The configuration has "
            + ("a problem: " if len(problems) == 1 else f"{len(problems)} problems: ")
            + " ".join(f"({n}) {p}" if len(problems) > 1 else p for n, p in enumerate(problems, 1)),
            where=str(path),
            hint="`contlearn config explain KEY` says what a key does, `contlearn config schema` "
            "prints all.",
        ) from error
    return LoadedConfig(config, origins)


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _literal(value: str) -> object:
    """Read a variable's value as TOML where it is one, else as the text itself."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _assign(data: dict[str, Any], parts: list[str], value: object, source: str) -> None:
    node = data
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"{source} names {'.'.join(parts)}, but {part} is not a section.",
                where=source,
                hint="`contlearn config schema` prints every key.",
            )
        node = child
    node[parts[-1]] = value


def _explain(item: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location) or "(the file)"
    origin = origins.get(path)
    by = f" (from {origin})" if origin and origin != "file" else ""
    if item["type"] == "extra_forbidden":
        known = keys_of(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        meant = f" Did you mean {'.'.join([*location[:-1], near[0]])}?" if near else ""
        choices = "" if near or not known else f" Known here: {', '.join(known)}."
        return f"Unknown key {path}{by}.{meant}{choices}"
    message = str(item["msg"]).removeprefix("Value error, ")
    # The value may be a whole section, with what is secret in it.
    keys = tuple(part for part in location if not part.isdigit()) or ("",)
    return f"{path} = {redact_value(item.get('input'), keys)!r}{by}: {message}."
