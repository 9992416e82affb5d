"""Export a checkpoint: fused, in 8 bits where that is right and faster, and proven equal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from contlearn.config import ExportConfig
from contlearn.errors import ExportError
from contlearn.inference.manifest import FALLBACK_FILE
from contlearn.inference.processor import processor_features
from contlearn.interfaces import Progress, Task
from contlearn.types import ExportReport, Inputs
from contlearn.workspace import storage_border, write_json_atomic

if TYPE_CHECKING:
    from contlearn.export.parity import Comparison, Reference

__all__ = ["OnnxExporter", "export_model"]

_STEPS: Final = 5
# A shorter time than this share of fp32's makes int8 worth its rounding.
_FASTER: Final = 0.95


class OnnxExporter:
    """The exporter that is used when nothing else is asked for."""

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "ONNX through optimum, fused, int8 where it is right and faster"

    def export(
        self, checkpoint: Path, folder: Path, *, task: Task, samples: Sequence[Inputs],
        options: ExportConfig, max_tokens: int, temperature: float,
        progress: Progress | None = None,
    ) -> ExportReport:  # fmt: skip
        """Export a checkpoint; see `export_model`."""
        return export_model(
            checkpoint, folder, task=task, samples=samples, options=options,
            max_tokens=max_tokens, temperature=temperature, progress=progress,
        )  # fmt: skip


def export_model(
    checkpoint: Path,
    folder: Path,
    *,
    task: Task,
    samples: Sequence[Inputs],
    options: ExportConfig,
    max_tokens: int,
    temperature: float = 1.0,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the folder that is served, and check it against its source; no parity, no folder.

    The folder holds one model.onnx, config.json and the tokenizer, and loads with optimum's
    ORTModelFor….from_pretrained. An int8 model has its fp32 twin beside it (`FALLBACK_FILE`), for
    processors on which 8-bit products saturate.

    Args:
        checkpoint: What `save_checkpoint` wrote.
        folder: Made here, by one rename at the end; it must not be there.
        task: What the model answers.
        samples: Inputs to compare on, as they are served; some of unusual lengths are added.
        options: Precision and tolerances.
        max_tokens: Longer inputs are cut.
        temperature: Written into config.json for people who load the folder without contlearn.
        progress: Called at each step.
    Raises:
        ExportError: When the graph differs from its source, or cannot be made.
    """
    from contlearn.export.graph import MODEL_FILE, export_graph, fuse_graph
    from contlearn.export.parity import compare, make_reference, open_session, probe_inputs
    from contlearn.modeling.checkpoint import load_checkpoint

    report: Progress = progress or (lambda _stage, _done, _total, _message: None)
    staged = folder.with_name(f".{folder.name}.tmp")
    with storage_border("export the model", folder):
        shutil.rmtree(staged, ignore_errors=True)
        plain, fused_folder = staged / "plain", staged / "fused"
        report("exporting", 0, _STEPS, "tracing the graph")
        source = load_checkpoint(checkpoint, attention="eager")
        export_graph(source, plain)
        report("exporting", 1, _STEPS, "fusing operators")
        fused = fuse_graph(plain, fused_folder)
        report("exporting", 2, _STEPS, "comparing with the checkpoint")
        inputs = [*_mixed(samples), *probe_inputs(task)]
        reference = make_reference(source, inputs, task=task, max_tokens=max_tokens)
        tolerance = options.max_logit_difference
        best, notes = fused_folder, []
        session = open_session(fused_folder / MODEL_FILE)
        outcome = compare(session, reference, tolerance=tolerance)
        if fused and not _is_equal(outcome, tolerance):
            notes.append(f"fusion was left out: it {_in_words(outcome)}")
            fused, best = {}, plain
            session = open_session(plain / MODEL_FILE)
            outcome = compare(session, reference, tolerance=tolerance)
        if not _is_equal(outcome, tolerance):
            raise ExportError(
                f"The exported model differs from its checkpoint: it {_in_words(outcome)}.",
                where=f"{outcome.rows} rows, tolerance {tolerance:g}",
                hint="Raise export.max_logit_difference if the difference is harmless; "
                "otherwise please report it with the name of the base model.",
            )
        if not fused.get("Attention"):
            notes.append("attention was not fused" if fused else "no operator was fused")
        report("exporting", 3, _STEPS, "8-bit arithmetic")
        precision, chosen = "fp32", outcome
        features = processor_features()
        small = staged / "int8"
        if options.precision != "fp32":
            tried, why = _try_int8(best, small, session, reference, options, features)
            if why:
                notes.append(why)
            else:
                precision, chosen = "int8", tried
        report("exporting", 4, _STEPS, "writing the folder")
        result = staged / "result"
        shutil.copytree(plain, result)
        shutil.copyfile((small if precision == "int8" else best) / MODEL_FILE, result / MODEL_FILE)
        if precision == "int8":
            shutil.copyfile(best / MODEL_FILE, result / FALLBACK_FILE)
        _add_facts(result, temperature=temperature, max_tokens=max_tokens, task=task.name)
        if folder.exists():
            raise ExportError(
                f"There is something at {folder.name} already.",
                where=str(folder),
                hint="Name a folder that does not exist; nothing is ever overwritten.",
            )
        result.rename(folder)
        shutil.rmtree(staged, ignore_errors=True)
    report("exporting", _STEPS, _STEPS, f"{precision}, {chosen.rows} rows compared")
    return ExportReport(
        folder=folder,
        precision=precision,
        max_abs_difference=chosen.max_abs_difference,
        label_agreement=chosen.agreement,
        rows_checked=chosen.rows,
        fused=fused,
        size_bytes=(folder / MODEL_FILE).stat().st_size,
        processor=features,
        notes=tuple(notes),
    )


def _try_int8(
    best: Path,
    small: Path,
    session: object,
    reference: Reference,
    options: ExportConfig,
    features: tuple[str, ...],
) -> tuple[Comparison, str]:
    """Make an int8 graph; say why it is not to be used, or nothing.

    Raises:
        ExportError: When int8 was asked for and does not agree.
    """
    from contlearn.export.graph import MODEL_FILE
    from contlearn.export.parity import Comparison, compare, median_seconds, open_session
    from contlearn.export.quantize import has_safe_int8, quantize_graph

    nothing = Comparison(0.0, 0.0, 0)
    is_wanted = options.precision == "int8"
    is_safe = has_safe_int8(features)
    if not is_safe and not is_wanted:
        return nothing, "fp32: 8-bit products saturate on this processor (no VNNI)"
    quantize_graph(best, small, reduce_range=not is_safe)
    quantised = open_session(small / MODEL_FILE)
    outcome = compare(quantised, reference, tolerance=0.0)
    if not outcome.agreement >= options.min_label_agreement:
        problem = (
            f"int8 gives the label of its source in {outcome.agreement:.2%} of {outcome.rows} "
            f"rows, less than export.min_label_agreement = {options.min_label_agreement:g}"
        )
        if is_wanted:
            raise ExportError(
                f"{problem}.",
                where='export.precision = "int8"',
                hint='Use export.precision = "auto", which falls back to fp32.',
            )
        return outcome, f"fp32: {problem}"
    before, after = median_seconds(session, reference), median_seconds(quantised, reference)
    if after > _FASTER * before and not is_wanted:
        return outcome, (
            f"fp32: int8 is not faster here ({1000 * after:.2f} ms against "
            f"{1000 * before:.2f} ms a text)"
        )
    return outcome, ""


def _is_equal(outcome: Comparison, tolerance: float) -> bool:
    return outcome.max_abs_difference <= tolerance and outcome.agreement == 1.0


def _in_words(outcome: Comparison) -> str:
    return (
        f"differs by {outcome.max_abs_difference:.3g} in its logits and gives "
        f"{outcome.agreement:.2%} of the labels"
    )


def _mixed(samples: Sequence[Inputs]) -> list[Inputs]:
    """Spread neighbours apart, so that batches of any stream hold short and long inputs."""
    half = (len(samples) + 1) // 2
    mixed: list[Inputs] = []
    for first, second in zip(samples[:half], [*samples[half:], None], strict=False):
        mixed.append(first)
        if second is not None:
            mixed.append(second)
    return mixed


def _add_facts(folder: Path, *, temperature: float, max_tokens: int, task: str) -> None:
    """Write what prediction needs besides the graph; transformers passes unknown keys over."""
    import json

    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    config["contlearn"] = {"task": task, "temperature": temperature, "max_tokens": max_tokens}
    write_json_atomic(path, config)
