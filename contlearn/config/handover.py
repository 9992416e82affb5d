"""What a process works with, handed over to the children it starts: configuration, loose plugins.

contlearn.toml may be changed, broken or taken away while a daemon runs. Until the daemon has read
and accepted it, its children work with what the daemon works with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contlearn.config import Config

__all__ = ["hand_over", "plugins_taken_over", "taken_over"]

_VARIABLE: Final = "CONTLEARN_CONFIG_IN_FORCE"
_PLUGINS: Final = "CONTLEARN_PLUGINS_IN_FORCE"
# Linux allows one variable 128 KiB. Whoever lists labels by the thousand has the file read instead.
_MOST_BYTES: Final = 100_000


def hand_over(config: Config, root: Path, plugins_dir: Path | None = None) -> dict[str, str]:
    """Give the variables that hand a configuration over, without whom it notifies.

    Args:
        config: The configuration.
        root: The workspace that it is for.
        plugins_dir: The folder of loose plugin files that this process has loaded.
    """
    plugins = {}
    if plugins_dir is not None:
        named = {"root": str(root.absolute()), "folder": str(plugins_dir.absolute())}
        plugins = {_PLUGINS: json.dumps(named)}
    value = {
        "root": str(root.absolute()),
        "config": config.model_dump(mode="json", exclude={"notifications"}),
    }
    text = json.dumps(value)
    return {**plugins, **({_VARIABLE: text} if len(text) <= _MOST_BYTES else {})}


def plugins_taken_over(root: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Give the folder of loose plugins that a parent works with; None without one."""
    text = (os.environ if environ is None else environ).get(_PLUGINS)
    value = json.loads(text) if text else {}
    return Path(value["folder"]) if value.get("root") == str(root.absolute()) else None


def taken_over(root: Path, environ: Mapping[str, str] | None = None) -> Config | None:
    """Give the configuration that a parent handed over for this workspace; None without one."""
    text = (os.environ if environ is None else environ).get(_VARIABLE)
    value = json.loads(text) if text else {}
    if value.get("root") != str(root.absolute()):
        return None
    return Config.model_validate(value["config"])
