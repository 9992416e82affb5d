"""The configuration that a process works with, handed over to the children it starts.

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

__all__ = ["hand_over", "taken_over"]

_VARIABLE: Final = "CONTLEARN_CONFIG_IN_FORCE"
# Linux allows one variable 128 KiB. Whoever lists labels by the thousand has the file read instead.
_MOST_BYTES: Final = 100_000


def hand_over(config: Config, root: Path) -> dict[str, str]:
    """Give the variables that hand a configuration over, without whom it notifies."""
    value = {
        "root": str(root.absolute()),
        "config": config.model_dump(mode="json", exclude={"notifications"}),
    }
    text = json.dumps(value)
    return {_VARIABLE: text} if len(text) <= _MOST_BYTES else {}


def taken_over(root: Path, environ: Mapping[str, str] | None = None) -> Config | None:
    """Give the configuration that a parent handed over for this workspace; None without one."""
    text = (os.environ if environ is None else environ).get(_VARIABLE)
    value = json.loads(text) if text else {}
    if value.get("root") != str(root.absolute()):
        return None
    return Config.model_validate(value["config"])
