"""A version as a folder of its own, for other programs."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from contlearn.config import ExportConfig
from contlearn.errors import RegistryError, UsageError
from contlearn.interfaces import Progress, no_progress
from contlearn.pipeline.answers import chosen_version
from contlearn.pipeline.context import Context
from contlearn.workspace import publish_folder, storage_border

__all__ = ["export_version"]


def export_version(
    context: Context,
    version: int | str,
    folder: Path,
    *,
    precision: str = "as-is",
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write model.onnx, configuration, tokenizer and manifest into a new folder.

    Args:
        context: The opened workspace.
        version: Which version.
        folder: Must not be there yet, or be empty.
        precision: "as-is" copies what is served; another one is exported from the checkpoint and
            checked for parity, which needs the [train] extra.
        dry_run: Check everything, write nothing.
        progress: Called with (stage, done, total, message).
    Raises:
        RegistryError: When the version is missing or damaged.
        UsageError: When the folder holds something.
        ExportError: When the new export differs from the checkpoint.
    """
    chosen = chosen_version(context, version)
    target = folder.absolute()
    if target.exists() and any(target.iterdir()):
        raise UsageError(
            f"{target} is not empty.",
            where=str(target),
            hint="Name a new folder; nothing is ever overwritten.",
        )
    facts = chosen.manifest
    parity: dict[str, Any] = {
        key: facts["export"][key] for key in ("max_abs_difference", "label_agreement")
    }
    source = chosen.path / "onnx"
    if dry_run:
        files = sorted(path.name for path in source.iterdir())
        return {"path": str(target), "files": files, "parity": parity, "dry_run": True}
    problems = context.registry.verify(chosen.version)
    if problems:
        raise RegistryError(
            f"Version {chosen.version} is damaged: {'; '.join(problems)}.",
            where=str(chosen.path),
            hint="Export another version, or restore the folder from a backup.",
        )
    with storage_border("write the exported folder", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        staged = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            if precision in ("as-is", facts["model"]["precision"]):
                shutil.copytree(source, staged)
            else:
                parity = _export_again(context, chosen.path, staged, precision, progress, facts)
            shutil.copyfile(chosen.path / "manifest.json", staged / "manifest.json")
            for path in staged.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            staged.chmod(0o755)
            publish_folder(staged, target)
        finally:
            if staged.exists():
                shutil.rmtree(staged)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    return {"path": str(target), "files": files, "parity": parity, "dry_run": False}


def _export_again(
    context: Context,
    version: Path,
    staged: Path,
    precision: str,
    progress: Progress,
    facts: Any,
) -> dict[str, Any]:
    from contlearn.export.onnx import export_model

    report = export_model(
        version / "checkpoint",
        staged,
        task=context.task,
        samples=[
            context.task.read_inputs(t, context.config.data.field_names())
            for t in facts["golden"]["texts"]
        ],
        options=ExportConfig.model_validate({"precision": precision}),
        max_tokens=facts["model"]["max_tokens"],
        temperature=facts["model"]["temperature"],
        progress=progress,
    )
    return {
        "max_abs_difference": report.max_abs_difference,
        "label_agreement": report.label_agreement,
    }
