"""Making a workspace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from contlearn.config import CONFIG_FILE, Config, ModelConfig, render_default
from contlearn.context import check_names
from contlearn.errors import UsageError
from contlearn.operations.base import try_base
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import Workspace, output_border, write_bytes_atomic

__all__ = ["make_workspace"]


def make_workspace(
    folder: Path,
    *,
    task: str,
    base: str,
    name: str | None = None,
    plugins_dir: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write contlearn.toml and the folders of a new workspace.

    Args:
        folder: Made if it is not there; one that is already a workspace is refused.
        task: The task's name.
        base: The pretrained encoder.
        name: The model's name; made from the folder's name if left out.
        plugins_dir: A folder of loose plugin files, whose tasks count too.
        dry_run: Check everything, write nothing.
    Returns:
        What was made, and `notes`: what is to be said about the base model.
    Raises:
        UsageError: When the folder is a workspace already, or there can be none.
        PluginError: When there is no such task.
        ConfigError: When the base model is a folder that is not there, would be read wrongly, or
            cannot be trained and exported.
    """
    root = folder.absolute()
    if (root / CONFIG_FILE).exists():
        raise UsageError(
            f"{root} is a workspace already.",
            where=str(root / CONFIG_FILE),
            hint="Name another folder, or edit that file.",
        )
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-._") or "model"
    config = Config(model=ModelConfig(name=chosen[:64], task=task, base=base))
    manager = PluginManager(folder=plugins_dir)
    check_names(config, manager)
    look = try_base(base)
    longest = min(config.model.max_tokens, look.limit or config.model.max_tokens)
    notes = list(look.notes)
    if longest < config.model.max_tokens:
        notes.append(
            f"The base model reads {longest} pieces of a text, so model.max_tokens is that."
        )
    if not dry_run:
        workspace = Workspace(root)
        with output_border(root):
            workspace.make_folders()
        fields = manager.task(task, where="--task").fields
        text = render_default(
            name=chosen[:64], task=task, base=base, fields=fields, max_tokens=longest
        )
        write_bytes_atomic(workspace.config_file, text.encode())
    return {
        "workspace": str(root),
        "task": task,
        "base": base,
        "name": chosen[:64],
        "notes": notes,
    }
