"""A version as a folder of its own, for other programs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contlearn.context import Context
from contlearn.errors import RegistryError, UsageError
from contlearn.export.samples import MOST_SAMPLES, spread
from contlearn.inference.manifest import MODEL_FILE, ONNX_FOLDER, describe_files
from contlearn.interfaces import Progress, no_progress
from contlearn.operations.chosen import chosen_version
from contlearn.papers.manifest import MANIFEST, Manifest, VersionFacts
from contlearn.registry.pointers import CONFIG, render_config
from contlearn.registry.versions import ModelVersion
from contlearn.types import Calibration, Inputs
from contlearn.workspace import (
    file_lock,
    output_border,
    publish_folder,
    storage_border,
    write_json_atomic,
)

__all__ = ["export_version"]

TRITON_FILE: Final = "model.bin"
_PARITY: Final = (
    "max_abs_difference",
    "relative_difference",
    "logit_spread",
    "label_agreement",
    "required",
    "rows_checked",
)


def export_version(
    context: Context,
    version: int | str | None,
    folder: Path,
    *,
    precision: str = "as-is",
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write a new folder that optimum, plain onnxruntime and Triton load.

    It holds model.onnx, configuration, tokenizer and manifest, and for Triton config.pbtxt and a
    copy of the model below the version's number; its parent is then the model repository.

    Args:
        context: The opened workspace.
        version: Number or alias; the champion if it is None.
        folder: Must not be there yet, or be empty.
        precision: "as-is" copies what is served; "auto", "fp32", "int8", "int8-static" (calibrated
            on the replay buffer) and "fp16" (for graphics processors) are exported from the
            checkpoint and compared with it on held-out texts, which needs the [train] extra.
        dry_run: Check everything, write nothing.
        progress: Called with (stage, done, total, message).
    Raises:
        RegistryError: When the version is missing or damaged.
        UsageError: When the folder holds something, there can be none, or it is contlearn's own.
        WorkspaceLocked: When another process is exporting to it.
        ExportError: When the new export differs from the checkpoint.
    """
    chosen = chosen_version(context, version)
    target = folder.absolute()
    with output_border(target, context.workspace.own_folders(context.config)):
        if target.is_symlink() or (target.exists() and (target.is_file() or any(target.iterdir()))):
            raise UsageError(
                f"{target} is {'not empty' if target.is_dir() else 'not a folder'}.",
                where=str(target),
                hint="Name a new folder; nothing is ever overwritten.",
            )
    facts = chosen.manifest
    again = precision not in ("as-is", facts.model.precision)
    parity: dict[str, Any] = _parity(facts)
    source = chosen.path / ONNX_FOLDER
    problems = context.registry.verify(chosen.version)
    if problems:
        raise RegistryError(
            f"Version {chosen.version} is damaged: {'; '.join(problems)}.",
            where=str(chosen.path),
            hint="Export another version, or restore the folder from a backup.",
        )
    if dry_run:
        names = sorted(path.name for path in source.iterdir())
        files = [*names, CONFIG, MANIFEST, f"{chosen.version}/{TRITON_FILE}"]
        return _result(chosen, target, files, parity, dry_run=True)
    with storage_border("write the exported folder", target), _staging(target) as staged:
        if again:
            facts = _export_again(context, chosen, staged, precision, progress)
            parity = _parity(facts)
        else:
            shutil.copytree(source, staged)
        files_below = {f"{ONNX_FOLDER}/{k}": v for k, v in describe_files(staged).items()}
        write_json_atomic(staged / MANIFEST, facts.with_parts(files=files_below).to_json())
        # Triton wants the file below a folder named by the version. optimum looks for *.onnx
        # in all folders and must find exactly one, so this copy has another name.
        (staged / str(chosen.version)).mkdir()
        shutil.copyfile(staged / MODEL_FILE, staged / str(chosen.version) / TRITON_FILE)
        config = render_config(None, facts, filename=TRITON_FILE)
        (staged / CONFIG).write_text(config, encoding="utf-8")
        for path in staged.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        staged.chmod(0o755)
        if target.exists():  # and is empty
            target.rmdir()
        publish_folder(staged, target)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    return _result(chosen, target, files, parity, dry_run=False)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Give a place beside the target to build it in; what a killed export left there goes first.

    Raises:
        UsageError: When there can be no folder there.
        WorkspaceLocked: When another process is building there.
    """
    around = target.with_name(f".{target.name}.contlearn-export")
    with output_border(target):
        around.mkdir(parents=True, exist_ok=True)
    hint = "Wait until it is done, or name another folder."
    with file_lock(around / "lock", what=f"exporting to {target}", hint=hint):
        try:
            staged = around / "export"
            if staged.exists():
                shutil.rmtree(staged)
            yield staged
        finally:
            shutil.rmtree(around)


def _result(
    version: ModelVersion, target: Path, files: list[str], parity: dict[str, Any], *, dry_run: bool
) -> dict[str, Any]:
    return {
        "version": version.version,
        "path": str(target),
        "files": files,
        "parity": parity,
        "dry_run": dry_run,
    }


def _parity(facts: VersionFacts) -> dict[str, Any]:
    measured = facts.export.to_json()
    return {key: measured.get(key) for key in _PARITY}


def _export_again(
    context: Context, version: ModelVersion, staged: Path, precision: str, progress: Progress
) -> Manifest:
    """Export a version's checkpoint in another precision; give the manifest that belongs to it."""
    from contlearn.export.onnx import export_model
    from contlearn.inference.golden import write_golden
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.training.state import buffered_ids

    facts = version.manifest
    model = facts.model.to_json()
    state = version.path / "state" / "state.json"
    report = export_model(
        version.path / "checkpoint",
        staged,
        task=context.task,
        samples=_held_out(context, version)
        or [context.task.probe(text) for text in (facts.golden or {})["texts"]],
        options=context.config.export,
        max_tokens=model["max_tokens"],
        temperature=model["temperature"],
        calibration=_texts(context, buffered_ids(version.path / "state") if state.exists() else ()),
        precision=precision,
        progress=progress,
    )
    model |= {
        "precision": report.precision,
        "processor": list(report.processor),
        "pad_id": report.pad_id,
    }
    predictor = OnnxPredictor(
        staged,
        task=context.task,
        label_space=version.label_space,
        max_tokens=model["max_tokens"],
        calibration=Calibration.from_json(model),
        pad_id=report.pad_id,
    )
    predictor.precision = report.precision
    with contextlib.closing(predictor):
        golden = write_golden(predictor)
    return facts.with_parts(model=model, golden=golden, export=report.to_json())


def _held_out(context: Context, version: ModelVersion) -> list[Inputs]:
    """Give held-out inputs of the version's lineage, some of every experience."""
    from contlearn.catalog.records import experience_records

    with context.catalog.read() as connection:
        sets = [
            experience_records(connection, cycle, "held_out")
            for cycle in version.manifest.lineage.experiences
        ]
    return _texts(context, spread(sets, MOST_SAMPLES))


def _texts(context: Context, record_ids: Sequence[str]) -> list[Inputs]:
    from contlearn.data.store import read_records

    records = read_records(context.workspace, context.catalog, record_ids)
    return [record.inputs for record in records]
